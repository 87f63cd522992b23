import numpy as np
import pytest

from postbc.config.robot import GuardConfig, OperatorConfig, RobotConfig, TeleopConfig, WorkspaceConfig
from postbc.errors import ConfigError, MismatchError
from postbc.features import Feature, Features, factor
from postbc.robots.mapping import Robot, match, require_agreement

KNOWN = ["elbow.pos", "wrist.pos", "jaw.pos", "agent_pos.0"]
WANTED = (Feature("wrist.pos", "rad"), Feature("elbow.pos", "rad"))


def test_numbers_are_read_in_the_policys_order_and_units():
    channels = match("state", ["wrist.pos deg", "elbow.pos deg"], WANTED, Robot(KNOWN), "agent_pos.")
    raw = {"elbow.pos": 180.0, "wrist.pos": 90.0, "jaw.pos": 1.0, "agent_pos.0": 0.0}
    assert np.allclose(channels.read(raw), [np.pi / 2, np.pi])


def test_without_a_choice_the_policys_names_are_taken_or_those_of_a_nameless_robot():
    assert match("state", None, WANTED, Robot(KNOWN), "agent_pos.").features == ("wrist.pos", "elbow.pos")
    assert match("state", None, None, Robot(KNOWN), "agent_pos.").features == ("agent_pos.0",)
    assert match("action", None, None, Robot(KNOWN), "").features == tuple(KNOWN)


def test_other_names_are_mapped():
    wanted = (Feature("joint_1", "deg"),)
    channels = match("state", {"joint_1": "elbow.pos rad"}, wanted, Robot(KNOWN), "")
    assert channels.features == ("elbow.pos",)
    assert channels.scale[0] == pytest.approx(180 / np.pi)


@pytest.mark.parametrize(
    ("chosen", "error", "words"),
    [
        (
            ["elbow.pos", "wrist.pos"],
            MismatchError,
            r"gives elbow\.pos, wrist\.pos; the policy.*wrist\.pos, elbow\.pos",
        ),
        (["wrist.pos"], MismatchError, "in this order"),
        (["wrist.pos", "wings.pos"], ConfigError, r"asks for wings\.pos; the robot has"),
        (["wrist.pos", "wrist.pos"], ConfigError, "twice"),
        (["wrist.pos in deg"], ConfigError, r"is written"),
        ("wrist.pos", ConfigError, "expected features in order"),
        (["wrist.pos m", "elbow.pos m"], MismatchError, "'m' can not be converted to 'rad'"),
        (["wrist.pos furlong", "elbow.pos rad"], MismatchError, "furlong"),
    ],
)
def test_what_does_not_fit_is_named(chosen, error, words):
    with pytest.raises(error, match=words):
        match("state", chosen, WANTED, Robot(KNOWN), "agent_pos.")


def test_names_and_units_survive_json():
    features = Features(WANTED, (), (Feature("jaw.pos", "%"),))
    assert Features.of(features.json()) == features


@pytest.mark.parametrize(
    ("unit", "wanted", "value"), [("%", "1", 0.01), ("mm", "m", 1e-3), ("deg", "deg", 1), ("", "", 1)]
)
def test_factors(unit, wanted, value):
    assert factor(unit, wanted) == pytest.approx(value)


def test_a_real_robot_must_say_its_units_where_the_policy_has_some():
    with pytest.raises(
        MismatchError, match=r"in which unit.*wrist\.pos, elbow\.pos.*write for instance `wrist\.pos rad`"
    ):
        match("state", ["wrist.pos", "elbow.pos"], WANTED, Robot(KNOWN, speaks=False), "")
    assert match("state", ["elbow.pos"], (Feature("elbow.pos"),), Robot(KNOWN, speaks=False), "").scale[0] == 1


BOX = WorkspaceConfig(joints=["elbow.pos"], low=[0.0] * 3, high=[1.0] * 3)


@pytest.mark.parametrize(
    ("state", "config", "words"),
    [
        ("elbow.pos deg", RobotConfig(), r"elbow\.pos is said to be in deg and in rad"),
        (
            "elbow.pos rad",
            RobotConfig(guard=GuardConfig(workspace=BOX)),
            r"workspace\.degrees = True, and .*elbow\.pos in rad",
        ),
        ("wrist.pos deg", RobotConfig(options={"use_degrees": False}), "use_degrees is false"),
        (
            "elbow.pos rad",
            RobotConfig(
                options={"use_degrees": True},
                operator=OperatorConfig(teleop=TeleopConfig("leader", {"use_degrees": False})),
            ),
            "use_degrees differs",
        ),
    ],
)
def test_units_that_contradict_each_other_are_refused(state, config, words):
    chosen = {"state": state, "action": "elbow.pos rad"}
    parts = [match(name, [one], [Feature(one.split()[0], "rad")], Robot(KNOWN), "") for name, one in chosen.items()]
    with pytest.raises(ConfigError, match=words):
        require_agreement(parts, config)


def test_units_that_agree_are_not():
    wanted = [Feature("elbow.pos", "rad")]
    parts = [match(name, ["elbow.pos deg"], wanted, Robot(KNOWN), "") for name in ("state", "action")]
    require_agreement(parts, RobotConfig(guard=GuardConfig(workspace=BOX), options={"use_degrees": True}))
