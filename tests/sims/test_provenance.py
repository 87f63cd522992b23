"""Demonstrations of another simulator are refused, by name of what differs."""

import copy
import json

import pytest

from postbc.errors import DataError, MismatchError
from postbc.sims import get_task
from postbc.sims.provenance import differences, refuse_other_simulator


@pytest.fixture(scope="module")
def recorded() -> dict:
    return get_task("lift").describe({"placement": 0.1})


def test_what_this_simulator_recorded_is_taken_wherever_the_object_started(recorded: dict):
    refuse_other_simulator(get_task("lift"), {"placement": 0.05}, json.dumps(recorded), "demo_0")


def test_what_nobody_wrote_down_does_not_differ():
    refuse_other_simulator(get_task("lift"), {}, "{}", "demo_0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda args: args.update(env_version="1.4.1"), "env_version was '1.4.1', is '1.5.1'"),
        (lambda args: args["versions"].update(mujoco="2.3.2"), "versions/mujoco was '2.3.2'"),
        (lambda args: args.update(env_name="PickPlaceCan"), "env_name was 'PickPlaceCan', is 'Lift'"),
        (lambda args: args["env_kwargs"].update(control_freq=10), "env_kwargs/control_freq was 10, is 20"),
        (
            lambda args: args["env_kwargs"]["controller_configs"]["body_parts"]["right"].update(kp=300),
            "env_kwargs/controller_configs/body_parts/right/kp was 300, is 150",
        ),
    ],
)
def test_another_one_is_named(recorded: dict, change, message: str):
    other = copy.deepcopy(recorded)
    change(other)
    with pytest.raises(MismatchError, match=f"demo_7 was recorded with another simulator.*{message}"):
        refuse_other_simulator(get_task("lift"), {}, json.dumps(other), "demo_7")
    assert len(differences(other, recorded)) == 1


@pytest.mark.parametrize("recorded", ["{", "[1]", "null", ""])
def test_a_description_that_is_none_is_named(recorded: str):
    with pytest.raises(DataError, match="demo_3: env_args is"):
        refuse_other_simulator(get_task("lift"), {}, recorded, "demo_3")
