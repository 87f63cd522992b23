"""A robot as an environment: the twin in this process and in one of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sessions import POLICY, TASK, TWIN, own_env, remote_env, request

from postbc.config import GuardConfig, RobotConfig, TaskConfig
from postbc.demos.store import listed_segments, read_store
from postbc.errors import ConfigError, NotArmedError, RobotError, UnsafeActionError
from postbc.features import Feature, Features
from postbc.robots import arming
from postbc.robots.environment import RobotEnv, with_limits
from postbc.robots.guard import limits_fingerprint
from postbc.robots.keeper import ENDING
from postbc.robots.lock import hold
from postbc.robots.recorder import Recorder, read_journal
from postbc.robots.remote import RemoteRobot
from postbc.robots.safe import SafeRobot, make_robot


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def safe_twin(config=TWIN):
    return SafeRobot(make_robot(config, TASK.env, {}), config, TASK.fps)


def test_the_twin_is_the_task_when_nothing_is_altered():
    from postbc.sims import get_task

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
    log, guard = tmp_path / "motors", replace(TWIN.guard, heartbeat=0.1)
    with remote_env(tmp_path, replace(TWIN, clock="wall", guard=guard, options={"motor_log": str(log)})) as env:
        env.reset(seed=0)
        env.step(np.zeros(2))
        last = time.monotonic()
        deadline = last + 30
        while '"stop"' not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        stopped = json.loads(log.read_text().splitlines()[-1])
        assert stopped[1] == "stop"
        assert 0.05 < stopped[0] - last < 2
        with pytest.raises(RobotError, match=r"nothing was heard from the control loop for 0\.1 s"):
            env.step(np.zeros(2))


def test_a_robot_process_that_is_gone_is_a_named_error(tmp_path):
    with remote_env(tmp_path) as env:
        env.reset(seed=0)
        env.body.child.process.kill()
        with pytest.raises(RobotError, match="process that holds the robot is gone"):
            env.step(np.zeros(2))


class Arm:
    """A robot of joint positions that notes what it is told."""

    name, is_calibrated, is_connected = "arm", True, True

    def __init__(self):
        self.observation_features = self.action_features = {"elbow.pos": float}
        self.at, self.told, self.fails, self.blind, self.stuck = 10.0, [], False, False, False
        self.bus = SimpleNamespace(disconnect=lambda off: self.told.append(f"bus off, torque {'off' if off else 'on'}"))
        self.config = type("Settings", (), {"disable_torque_on_disconnect": True})()

    def connect(self, calibrate=True):
        assert not calibrate

    def get_observation(self):
        if self.blind:
            raise TimeoutError("no frame")
        return dict.fromkeys(self.observation_features, self.at)

    def send_action(self, action):
        if self.fails:
            raise ConnectionError("no such bus")
        self.told.append(next(iter(action.values())))
        return action

    def disconnect(self):
        if self.stuck:
            raise RuntimeError("not connected")
        self.told.append(f"off, torque {'off' if self.config.disable_torque_on_disconnect else 'on'}")


def armed(config, fps):
    return arming.Arming(config.type, POLICY, limits_fingerprint(config, fps), "Ada", 0.0, 10.0, "0" * 32)


def arm_behind(guard, arm=None):
    config = RobotConfig(type="arm", guard=guard)
    safe = SafeRobot(arm or Arm(), config, 10.0)
    safe.guarded(list(safe.action_features))
    safe.connect(armed(config, 10.0))
    return safe


LIMITS = GuardConfig([0.0], [90.0], [5.0])


def test_positions_count_from_where_the_arm_is_and_a_stop_holds_it_there():
    safe = arm_behind(LIMITS)
    safe.begin()
    assert safe.act(np.array([90.0])) == [15.0]
    safe.robot.at = 12.0
    safe.stop("enough")
    safe.stop("once more")
    assert safe.robot.told == [15.0, 12.0, "off, torque on"]
    with pytest.raises(RobotError, match="enough"):
        safe.act(np.array([12.0]))


def test_release_switches_the_torque_off_and_an_arm_outside_of_its_limits_is_not_told_to_hold():
    safe = arm_behind(replace(LIMITS, on_stop="release"))
    safe.stop("enough")
    assert safe.robot.told == ["off, torque off"]
    safe = arm_behind(LIMITS)
    safe.robot.at = 91.0
    safe.stop("enough")
    assert safe.robot.told == ["off, torque on"]


def test_an_arm_whose_camera_is_lost_is_held_where_it_was_last_seen():
    safe = arm_behind(LIMITS)
    safe.begin()
    safe.robot.blind = True
    safe.robot.is_connected = False  # as LeRobot's drivers say when one camera is not
    with pytest.raises(TimeoutError):
        safe.observe()
    safe.stop("the camera is lost")
    assert safe.robot.told == [10.0, "off, torque on"]


def test_a_robot_that_can_not_be_disconnected_as_a_whole_is_at_its_bus():
    safe = arm_behind(replace(LIMITS, on_stop="release"))
    safe.robot.stuck = True
    safe.stop("enough")
    assert safe.robot.told == ["bus off, torque off"]


def base_behind(names=("x.vel",), **more):
    base = Arm()
    base.observation_features = base.action_features = dict.fromkeys(names, float)
    base.send_action = lambda action: base.told.append(list(action.values())) or action
    ends = [-1.0] * len(names), [100.0] * len(names)
    return arm_behind(replace(GuardConfig(*ends, [5.0] * len(names)), **more), base)


@pytest.mark.parametrize("name", ["x.vel", "mobile_base.vtheta", "linear_velocity"])
def test_a_velocity_is_no_position_and_a_stop_commands_none(name):
    safe = base_behind([name])
    safe.begin()  # stands still, whatever it says: the first velocity counts from zero
    assert safe.act(np.array([40.0])) == [5.0]
    safe.stop("enough")
    assert safe.robot.told == [[5.0], [0.0], "off, torque on"]


@pytest.mark.parametrize(("on_stop", "torque"), [("hold", "on"), ("release", "off")])
def test_an_arm_on_wheels_stands_when_an_episode_is_over_and_keeps_its_pose(on_stop, torque):
    safe = base_behind(["elbow.pos", "x.vel"], on_stop=on_stop)
    safe.begin()
    safe.act(np.array([12.0, 0.5]))
    safe.rest()
    safe.robot.at = 11.0
    safe.stop("enough")
    assert safe.robot.told == [[12.0, 0.5], [12.0, 0.0], [11.0, 0.0], f"off, torque {torque}"]


def test_wheels_stand_where_the_arm_on_them_is_outside_of_its_limits_and_a_camera_is_lost():
    safe = base_behind(["elbow.pos", "x.vel"])
    safe.begin()
    safe.act(np.array([12.0, 0.5]))
    safe.robot.at, safe.robot.stuck = 200.0, True
    safe.stop("enough")
    assert safe.robot.told == [[12.0, 0.5], [12.0, 0.0], "bus off, torque off"]


def test_a_velocity_that_can_not_be_zero_is_refused():
    with pytest.raises(ConfigError, match="no zero"):
        base_behind(low=[0.1])


def test_a_robot_is_connected_once_and_never_after_a_stop():
    config = RobotConfig(type="arm", guard=LIMITS)
    safe = SafeRobot(Arm(), config, 10.0)
    safe.guarded(list(safe.action_features))
    safe.stop("it was ended")
    with pytest.raises(RobotError, match="it was ended"):
        safe.connect(armed(config, 10.0))
    again = arm_behind(LIMITS)
    with pytest.raises(RobotError, match="connected once"):
        again.connect(armed(again.config, 10.0))


def test_settings_that_can_not_be_changed_do_not_keep_it_from_being_disconnected():
    class Frozen:
        disable_torque_on_disconnect = property(lambda _: True)

    safe = arm_behind(LIMITS)
    safe.robot.config = Frozen()
    safe.stop("enough")
    assert safe.robot.told == [10.0, "off, torque off"]


def test_a_velocity_is_not_kept_where_no_plan_has_come():
    base, config = Arm(), RobotConfig(type="arm", arm="simulated", guard=GuardConfig([-1.0], [1.0]))
    base.observation_features = base.action_features = {"x.vel": float}
    base.is_simulated, base.place, base.succeeded = True, lambda seed: None, lambda: False
    safe = SafeRobot(base, config, 10.0)
    env = RobotEnv(safe, replace(config, state=["x.vel"], action=["x.vel"]), 10.0)
    safe.connect()
    env.reset(seed=0)
    env.step(np.array([0.5]))
    env.keep()
    assert base.told == [0.5, 0.0]


def test_a_bus_that_is_lost_ends_in_the_safe_state():
    safe = arm_behind(LIMITS)
    safe.begin()
    safe.robot.fails = True
    with pytest.raises(ConnectionError):
        safe.act(np.array([12.0]))
    assert safe.stopped == "no such bus"
    assert safe.robot.told == ["off, torque on"]


def test_an_arm_that_is_not_calibrated_is_not_moved():
    arm = Arm()
    arm.is_calibrated = False
    with pytest.raises(RobotError, match="lerobot-calibrate"):
        arm_behind(LIMITS, arm)
    assert arm.told[-1] == "off, torque on"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (RobotConfig(type="arm", guard=LIMITS, clock="simulated"), "moves in real time"),
        (RobotConfig(type="arm", guard=GuardConfig([0.0], [90.0])), "max_speed or max_step"),
        (
            RobotConfig(type="arm", guard=GuardConfig([0.0, 0.0], [90.0, 1.0], [5.0, 1.0])),
            r"low has 2 numbers.*elbow\.pos",
        ),
        (RobotConfig(type="arm", guard=replace(LIMITS, heartbeat=0.15)), "heartbeat"),
        (RobotConfig(type="arm", guard=replace(LIMITS, max_step=[])), "max_step has 0 numbers"),
    ],
)
def test_limits_that_bound_nothing_are_refused(config, words):
    with pytest.raises(ConfigError, match=words):
        SafeRobot(Arm(), config, 10.0).guarded(["elbow.pos"])


def test_limits_are_fixed_once_a_robot_was_connected():
    safe = arm_behind(LIMITS)
    with pytest.raises(RobotError, match="can not be changed"):
        safe.guarded(["elbow.pos"])


def test_a_driver_that_hangs_is_waited_for_no_longer_than_asked():
    safe, let_go = arm_behind(LIMITS), threading.Event()
    safe.robot.get_observation = lambda: let_go.wait(20) and {"elbow.pos": 0.0}
    looking = threading.Thread(target=safe.observe)
    looking.start()
    until = time.monotonic() + 10
    while safe._lock.acquire(blocking=False) and time.monotonic() < until:
        safe._lock.release()
    assert safe.stop("hangs", within=0.05) is False
    let_go.set()
    looking.join()
    assert safe.stop("hangs", within=1.0) is True


def test_a_number_that_is_lost_stops_the_robot_before_it_is_recorded(tmp_path):
    env = own_env()
    env.recorder = Recorder(tmp_path / "store", TASK.fps, {})
    env.reset(seed=0)
    env.step(np.zeros(2))
    look = env.body.robot.get_observation
    env.body.robot.get_observation = lambda: {**look(), "agent_pos.1": float("nan")}
    with pytest.raises(RobotError, match=r"agent_pos\.1 is nan"):
        env.step(np.zeros(2))
    assert env.body.stopped
    (episode,) = read_store(tmp_path / "store")
    assert np.isfinite(episode.obs["agent_pos"]).all()


def test_a_stop_is_heard_also_where_there_is_no_action_to_send():
    env = own_env()
    env.reset(seed=0)
    env.step(np.zeros(2))
    env.operator.stopped = lambda: True
    with pytest.raises(RobotError, match="operator stopped"):
        env.keep()
    assert env.body.stopped


def test_one_session_at_a_time(tmp_path):
    held = hold(tmp_path / "lock", "this arm")
    code = f"from pathlib import Path\nfrom postbc.robots.lock import hold\nhold(Path({str(tmp_path / 'lock')!r}), 'this arm')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another session runs with this arm" in done.stderr
    os.close(held)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGINT])
def test_what_a_terminal_sends_does_not_keep_a_robot_from_its_safe_state(number, tmp_path):
    log = tmp_path / "motors"
    with remote_env(tmp_path, replace(TWIN, options={"motor_log": str(log)})) as env:
        env.reset(seed=0)
        env.step(np.zeros(2))
        env.body.child.process.send_signal(number)
        env.step(np.zeros(2))
    assert json.loads(log.read_text().splitlines()[-1])[1] == "stop"


def test_every_step_is_recorded_as_executed(tmp_path):
    recorder = Recorder(tmp_path / "store", TASK.fps, {"robot": "twin", "operator": "me"})
    env = own_env(replace(TWIN, guard=GuardConfig([-1.0, -1.0], [1.0, 1.0], [0.25, 0.25])))
    env.recorder = recorder
    for seed in range(3):
        seen = [env.reset(seed=seed)[0]]
        for _ in range(4 + seed):
            seen.append(env.step(np.array([1.0, -1.0]) if seed else np.array([0.5, 0.5]))[0])
    env.close()
    recorder.close()
    episodes = list(read_store(tmp_path / "store"))
    assert [len(e) for e in episodes] == [4, 5, 6]
    assert [e.facts["seed"] for e in episodes] == [0, 1, 2]
    assert {e.facts["source"] for e in episodes} == {"robot"}
    assert np.allclose(episodes[2].obs["agent_pos"], [s["agent_pos"] for s in seen[:-1]])
    assert len(listed_segments(tmp_path / "store")) == 1  # the session's episodes were joined


KILLED = """
import os, signal, sys
from pathlib import Path
from postbc.robots.guard import limits_fingerprint
from postbc.robots.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), 10, {"robot": "twin"})
for episode in range(2):
    recorder.begin(episode)
    for step in range(7):
        recorder.step({"x": [float(step)]}, [0.5], False)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_session_loses_no_step(tmp_path):
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False)
    assert done.returncode == -signal.SIGKILL
    journal = next(store.glob("*.jsonl"))
    assert len(read_journal(journal)[1]) == 7
    with journal.open("ab") as file:
        file.write(b'{"obs": {"x": [9')  # and a line that was cut off
    recorder = Recorder(store, 10, {"robot": "twin"})
    recorder.close()
    assert [len(e) for e in read_store(store)] == [7, 7]
    assert not list(store.glob("*.jsonl"))
    recorder.begin(9)
    assert recorder._path.stem not in listed_segments(store)
    recorder.end()


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
