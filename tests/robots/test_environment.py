"""A robot as an environment: the twin in this process and in one of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from arm import LIMITS, Arm, arm_env, armed
from sessions import TASK, TWIN, own_env, remote_env, request

from postbc.config import TaskConfig
from postbc.config.robot import RobotConfig
from postbc.errors import ConfigError, NotArmedError, RobotError, UnsafeActionError
from postbc.features import Feature, Features
from postbc.robots import arming
from postbc.robots.environment import RobotEnv, with_limits
from postbc.robots.keeper import ENDING
from postbc.robots.remote import RemoteRobot
from postbc.robots.safe import SafeRobot, make_robot
from postbc.sims import get_task


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def safe_twin(config=TWIN):
    return SafeRobot(make_robot(config, TASK.env, {}), config, TASK.fps)


def test_the_twin_is_the_task_when_nothing_is_altered():

    twin, plain = own_env(), get_task("reach").make()
    seen = twin.reset(seed=5)[0], plain.reset(seed=5)[0]
    for _ in range(10):
        assert all(np.allclose(seen[0][key], seen[1][key]) for key in seen[1])
        action = np.array([0.3, -0.7], np.float32)
        seen = twin.step(action)[0], plain.step(action)[0]
    twin.close()


def test_a_camera_is_scaled_to_what_the_policy_reads(tmp_path):
    task = TaskConfig(name="pusht_pixels", env="pusht_pixels", fps=10, max_steps=300, chunk=8)
    config = with_limits(RobotConfig(arm="simulated"), task)
    body = SafeRobot(make_robot(config, task.env, {}), config, task.fps)
    envs = [RobotEnv(body, config, task.fps, picture=picture) for picture in (None, (24, 24))]
    body.connect()
    full, small = (env.reset(seed=3)[0]["pixels"] for env in envs)
    assert (full.shape, small.shape) == ((96, 96, 3), (24, 24, 3))
    assert np.abs(small - full.reshape(24, 4, 24, 4, 3).mean((1, 3))).max() <= 1  # Pillow rounds after each direction
    assert envs[1].shape.pixels == (3, 24, 24)
    with remote_env(tmp_path, config, task) as far:  # images pass between processes as well
        assert np.array_equal(far.reset(seed=3)[0]["pixels"], full)
        assert far.step(np.array([200.0, 200.0]))[0]["pixels"].shape == (96, 96, 3)


def test_altered_dynamics_change_what_happens():
    def positions(options):
        env = own_env(replace(TWIN, options=options))
        env.reset(seed=5)
        return np.array([env.step(np.array([0.5, 0.5]))[0]["agent_pos"] for _ in range(5)])

    plain = positions({})
    assert not np.allclose(positions({"latency": 2}), plain)
    noisy = positions({"sensor_noise": 0.01})
    assert 0 < np.abs(noisy - plain).max() < 0.1


def test_a_process_of_its_own_changes_nothing(tmp_path):
    near = own_env()
    with remote_env(tmp_path) as far:
        assert far.shape == near.shape
        seen = far.reset(seed=3)[0], near.reset(seed=3)[0]
        for _ in range(5):
            assert all(np.array_equal(seen[0][key], seen[1][key]) for key in seen[1])
            seen = far.step(np.array([0.4, 0.1]))[0], near.step(np.array([0.4, 0.1]))[0]
        with pytest.raises(UnsafeActionError, match="not finite"):
            far.step(np.array([np.nan, 0.0]))
        with pytest.raises(RobotError):
            far.step(np.zeros(2))
        child = far.body.child.process
    assert child.poll() is not None  # it has ended


@pytest.mark.parametrize("action", [[np.nan, 0.0], [np.inf, 0.0], [7.0, 0.0], [0.0], [0.0, 0.0, 0.0]])
def test_an_unsafe_action_stops_the_robot_and_is_not_sent(action, tmp_path):
    log = tmp_path / "motors"
    env = own_env(replace(TWIN, options={"motor_log": str(log)}))
    env.reset(seed=0)
    env.step(np.array([0.25, 0.5]))
    with pytest.raises(UnsafeActionError):
        env.step(np.array(action))
    with pytest.raises(RobotError, match="was stopped"):
        env.step(np.array([0.0, 0.0]))
    assert [json.loads(line)[1] for line in log.read_text().splitlines()] == ["place", "place", [0.25, 0.5], "stop"]


def test_nothing_is_connected_without_a_permission_for_these_limits(tmp_path):
    config = RobotConfig(type="arm", guard=LIMITS)
    hardware = SafeRobot(Arm(), config, 10.0)
    hardware.guarded(["elbow.pos"])
    with pytest.raises(NotArmedError, match="permission"):
        hardware.connect()
    for other in (replace(config, guard=replace(LIMITS, max_step=[9.0])), replace(config, action=["elbow.pos rad"])):
        with pytest.raises(NotArmedError, match="other limits"):
            hardware.connect(armed(other, 10.0))
    with pytest.raises(NotArmedError, match="other limits"):
        hardware.connect(armed(config, 30.0))
    assert hardware.robot.told == []
    with pytest.raises(RobotError, match="guard"):
        SafeRobot(Arm(), config, 10.0).connect(armed(config, 10.0))


def test_a_token_of_another_robot_moves_nothing(tmp_path):
    body = RemoteRobot(TWIN, TASK)
    try:
        RobotEnv(body, TWIN, TASK.fps)
        with pytest.raises(NotArmedError, match="is for arm, this is postbc_twin"):
            body.connect(replace(request(TWIN), robot="arm"), tmp_path / "arming")
        assert body.child.ending > ENDING  # it may be connecting, and is not killed half-way
    finally:
        body.stop("the test is over")


def test_a_twin_that_needs_a_token_uses_one_up(tmp_path):
    config = with_limits(replace(TWIN, arm="token"), TASK)
    body = RemoteRobot(config, TASK)
    try:
        RobotEnv(body, config, TASK.fps)
        with pytest.raises(NotArmedError):
            body.connect(request(config), tmp_path)
        arming.issue(tmp_path, request(config), "Ada")
        assert body.connect(request(config), tmp_path).operator == "Ada"
        assert not list(tmp_path.glob("*.json"))
    finally:
        body.stop("over")


def test_no_action_outside_of_an_episode(tmp_path):
    with remote_env(tmp_path) as env, pytest.raises(RobotError, match="outside of an episode"):
        env.body.act(np.zeros(2))


def test_the_watchdog_stops_a_robot_that_is_not_heard_of(tmp_path):
    log, guard = tmp_path / "motors", replace(TWIN.guard, heartbeat=1.0)
    with remote_env(tmp_path, replace(TWIN, clock="wall", guard=guard, options={"motor_log": str(log)})) as env:
        env.reset(seed=0)
        env.step(np.zeros(2))
        deadline = time.monotonic() + 60
        while '"stop"' not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        (sent, _), (stopped, what) = map(json.loads, log.read_text().splitlines()[-2:])
        assert what == "stop"
        assert stopped - sent > 0.9
        with pytest.raises(RobotError, match=r"nothing was heard from the control loop for 1 s"):
            env.step(np.zeros(2))


def test_a_robot_process_that_is_gone_is_a_named_error(tmp_path):
    with remote_env(tmp_path) as env:
        env.reset(seed=0)
        env.body.child.process.kill()
        with pytest.raises(RobotError, match="process that holds the robot is gone"):
            env.step(np.zeros(2))


def test_a_velocity_is_not_kept_where_no_plan_has_come():
    base, env = arm_env("x.vel", "x.vel")
    env.step(np.array([0.5]))
    env.keep()
    assert base.told == [0.5, 0.0]


def test_a_person_goes_on_where_no_plan_has_come():
    base, env = arm_env("x.delta", "elbow.pos")  # nothing that could be kept
    env.step(np.array([0.5]))
    env.keep()
    env.operator.action = lambda: {"x.delta": 0.25}
    info = env.keep()[-1]
    assert base.told == [0.5, 0.25]
    assert info["intervened"] and info["executed"] == [0.25]


def test_a_stop_is_heard_also_where_there_is_no_action_to_send():
    env = own_env()
    env.reset(seed=0)
    env.step(np.zeros(2))
    env.operator.stopped = lambda: True
    with pytest.raises(RobotError, match="operator stopped"):
        env.keep()
    assert env.body.stopped


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGINT])
def test_what_a_terminal_sends_does_not_keep_a_robot_from_its_safe_state(number, tmp_path):
    log = tmp_path / "motors"
    with remote_env(tmp_path, replace(TWIN, options={"motor_log": str(log)})) as env:
        env.reset(seed=0)
        env.step(np.zeros(2))
        env.body.child.process.send_signal(number)
        env.step(np.zeros(2))
    assert json.loads(log.read_text().splitlines()[-1])[1] == "stop"


def test_unknown_robots_options_and_features_are_named():
    with pytest.raises(ConfigError, match="postbc_twin"):
        make_robot(RobotConfig(type="no_such_robot"), "reach", {})
    with pytest.raises(ConfigError, match="wings"):
        make_robot(RobotConfig(options={"wings": 2}), "reach", {})
    with pytest.raises(ConfigError, match=r"elbow\.pos"):
        own_env(replace(TWIN, state=["elbow.pos"]))


def test_a_policy_in_other_units_is_understood():
    named = Features((Feature("x", "mm"), Feature("y", "mm")), (), (Feature("vx", "%"), Feature("vy", "%")))
    config = replace(TWIN, state={"x": "agent_pos.0 m", "y": "agent_pos.1 m"}, environment_state=[])
    config = replace(config, action={"vx": "action.0 1", "vy": "action.1 1"})
    body = safe_twin(config)
    env = RobotEnv(body, config, TASK.fps, named)
    body.connect()
    plain = own_env()
    seen = env.reset(seed=1)[0], plain.reset(seed=1)[0]
    for _ in range(3):
        assert np.allclose(seen[0]["agent_pos"], 1000 * seen[1]["agent_pos"])
        seen = env.step(np.array([50.0, -20.0]))[0], plain.step(np.array([0.5, -0.2]))[0]
    assert env.action_space.high.tolist() == [100.0, 100.0]


def test_a_real_robot_is_not_evaluated_in_this_process(monkeypatch):
    from postbc.robots import environment

    monkeypatch.setattr(environment, "make_robot", lambda *_: Arm())
    with pytest.raises(RobotError, match="no simulated robot"):
        own_env(RobotConfig(type="arm", guard=LIMITS), TaskConfig(name="reach", env="reach"))


def test_the_process_that_holds_a_robot_ends_with_its_owner(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom sessions import *\n"
        "config = replace(TWIN, options={'motor_log': sys.argv[1] + '/motors'})\n"
        "with remote_env(Path(sys.argv[1]), config) as env:\n"
        "    env.reset(seed=0); env.step([0.1, 0.1]); print(env.body.child.process.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    where = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": where},
    )
    keeper, deadline = int(done.stdout), time.monotonic() + 30
    log = tmp_path / "motors"
    while '"stop"' not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert json.loads(log.read_text().splitlines()[-1])[1] == "stop"
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(keeper, 0)
            time.sleep(0.01)
