"""Who stands beside the robot: a person at terminal and page, or a script."""

import os
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from people import ANY_PORT, NO_PAGE, Clock, Waiting, ask, lflags, person, preparing, say, until

from postbc.compose import load_config
from postbc.config.robot import OperatorConfig, TeleopConfig
from postbc.errors import ConfigError, RobotError, StoppedError
from postbc.robots.operator import ScriptedOperator, Verdict, make_operator
from postbc.robots.operator.desk import Phase

ROOT = Path(__file__).parents[2]


def test_with_neither_terminal_nor_page_there_is_no_operator():
    with pytest.raises(RobotError, match=r"terminal.*page_port"), person(NO_PAGE):
        pass


def test_terminal_and_page_speak_of_one_desk(terminal):
    typing, stdin = terminal
    before = lflags(stdin)
    with person(ANY_PORT, stdin) as operator:
        assert lflags(stdin) == before  # until the robot is connected, which may ask something
        waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
        os.write(typing, b"\n")
        assert waiting.end() is None
        assert operator.verdict() is None
        assert say(operator.page, "success")["phase"] == "ended"
        assert operator.verdict() is Verdict.SUCCESS
        waiting = preparing(operator.desk, lambda: operator.prepare(2, 0))
        until(lambda: operator.desk.state().phase is Phase.RESETTING)
        os.write(typing, b"q")
        assert isinstance(waiting.end(), StoppedError)
        assert operator.stopped()
        assert lflags(stdin) == before  # an ended session gives everything back by itself


def test_the_page_alone_is_enough_and_its_address_is_logged(caplog):
    caplog.set_level("INFO", "postbc")
    with person(ANY_PORT) as operator:
        waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
        say(operator.page, "start")
        assert waiting.end() is None
        assert operator.page.url in caplog.text
        assert f"Episode 1: {ANY_PORT.instructions}" in caplog.text
        assert not operator.stopped()


def test_a_reset_that_takes_too_long_ends_the_session(terminal):
    _, stdin = terminal
    with person(replace(NO_PAGE, reset_timeout=0.05), stdin) as operator:
        with pytest.raises(RobotError, match=r"within 0\.05 s.*episode 4.*reset_timeout"):
            operator.prepare(4, 0)
        assert not operator.stopped()
        assert lflags(stdin) & termios.ICANON


def _absent(operator):
    """Run an episode from the page, then look away for 6 s of the desk's time."""
    clock = Clock()
    operator.desk._clock = clock
    waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
    clock.now += 30
    assert not operator.stopped()  # nothing moves during a reset
    say(operator.page, "start")
    assert waiting.end() is None
    clock.now += 4
    ask(operator.page, "GET", "/state")
    clock.now += 4
    assert not operator.stopped()
    clock.now += 2
    return operator.stopped()


def test_dead_man_without_a_terminal_a_running_episode_that_nobody_looks_at_stops():
    with person(ANY_PORT) as operator:
        assert _absent(operator)
        ask(operator.page, "GET", "/state")
        assert operator.stopped()  # coming back does not start it again
        with pytest.raises(StoppedError, match=r"nobody looked.*6\.0 s"):
            operator.prepare(2, 0)


def test_dead_man_somebody_who_returns_too_late_finds_it_stopped():
    with person(ANY_PORT) as operator:
        operator.desk._clock = clock = Clock()
        waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
        say(operator.page, "start")
        assert waiting.end() is None
        clock.now += 6
        ask(operator.page, "GET", "/state")
        assert operator.stopped()


def test_dead_man_a_person_at_the_terminal_needs_no_page(terminal):
    with person(ANY_PORT, terminal[1]) as operator:
        assert not _absent(operator)


def test_the_desk_is_read_while_clients_poll(page):
    polling = threading.Event()
    clients = [Waiting(lambda: [ask(page, "GET", "/state") for _ in iter(polling.is_set, True)]) for _ in range(3)]
    for step in range(200):
        page.desk.show({"step": step})
        page.desk.stopped(), page.desk.verdict(), page.desk.intervening()
        time.sleep(0.001)
    polling.set()
    assert [client.end() for client in clients] == [None] * 3


FEATURES = {"gripper.pos": float, "ee.z": float, "front": (48, 64, 3)}
ACTIONS = {"joint_0.pos": float, "joint_1.pos": float}


class SimulatedRobot:
    observation_features = FEATURES
    action_features = ACTIONS
    placed, done = None, False

    def place(self, seed):
        self.placed = seed

    def succeeded(self):
        return self.done


def test_a_simulated_robot_operates_itself():
    robot = SimulatedRobot()
    operator = make_operator(robot, OperatorConfig(success_when={"ee.z": [0.1, None]}, success_hold=2), simulated=True)
    assert isinstance(operator, ScriptedOperator)
    operator.prepare(1, 42)
    assert robot.placed == 42
    for height, verdict in ((0.2, None), (0.2, Verdict.SUCCESS)):
        operator.watch({"ee.z": height, "gripper.pos": 0.0})
        assert operator.verdict() is verdict
    operator.prepare(2, 43)
    assert operator.verdict() is None
    robot.done = True
    assert operator.verdict() is Verdict.SUCCESS
    operator.show({"step": 1})
    operator.close()
    assert not operator.stopped()
    assert not operator.intervening()


def test_a_real_robot_gets_a_person(monkeypatch):
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(RobotError, match="needs an operator"):
            make_operator(SimulatedRobot(), NO_PAGE, simulated=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"reset_timeout": 0},
        {"page_port": 65536},
        {"absent_after": 0.5},
        {"success_hold": 0},
        {"reward_threshold": 1.0},
        {"success_when": {"x": [2, 1]}},
        {"success_when": {"x": [1, 1]}},
        {"success_when": {"x": [None, None]}},
        {"success_when": {"x": [1]}},
        {"success_when": {"x": 1}},
        {"success_when": {"x": ["0", None]}},
        {"success_when": {"x": [float("nan"), None]}},
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        OperatorConfig(**wrong)


def test_options_without_a_teleoperator_are_refused():
    with pytest.raises(ConfigError, match="teleop"):
        TeleopConfig(options={"port": "/dev/ttyACM1"})


YAML = """
finetune_robot:
  robot:
    operator:
      instructions: Put the cube back.
      page_port: null
      success_when: {gripper.pos: [5, 60], ee.z: [0.1, null]}
      teleop: {type: so101_leader, options: {port: /dev/ttyACM1}}
"""


def test_params_yaml_describes_the_operator(tmp_path):
    import yaml

    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params.setdefault("finetune_robot", {}).setdefault("robot", {}).update(
        yaml.safe_load(YAML)["finetune_robot"]["robot"]
    )
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    found = load_config(tmp_path).finetune_robot.robot.operator
    assert found == OperatorConfig(
        instructions="Put the cube back.",
        page_port=None,
        success_when={"gripper.pos": [5, 60], "ee.z": [0.1, None]},
        teleop=TeleopConfig("so101_leader", {"port": "/dev/ttyACM1"}),
    )


def test_importing_an_operator_imports_nothing_heavy():
    code = "import postbc.robots.operator, sys; print({m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in ("torch", "lerobot", "asyncio", "prefect") if f"'{name}'" in loaded]
