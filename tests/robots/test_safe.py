"""A robot moves only behind its guard, and ends in its safe state."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from arm import LIMITS, Arm, arm_behind, armed

from postbc.config.robot import GuardConfig, RobotConfig
from postbc.errors import ConfigError, RobotError
from postbc.robots.keeper import Watchdog
from postbc.robots.safe import SafeRobot


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


class Bus:
    """Of motors that note what they are told; the rest of the robot is LeRobot's."""

    is_connected = is_calibrated = True

    def __init__(self, motors, told):
        self.motors, self.told, self.lost = motors, told, False

    def sync_read(self, *_, **__):
        return dict.fromkeys(self.motors, 10.0)

    def sync_write(self, register, values):
        self.told.append(register)

    def disconnect(self, off):
        if self.lost:
            self.lost = False
            raise ConnectionError("no such bus")
        self.told.append(f"off, torque {'off' if off else 'on'}")


@pytest.mark.parametrize(("on_stop", "torque"), [("hold", "on"), ("release", "off")])
@pytest.mark.parametrize("lost", [False, True])
def test_both_arms_of_lerobots_pair_are_held_or_let_go(on_stop, torque, lost):
    from lerobot.robots.bi_so_follower import BiSOFollower, BiSOFollowerConfig
    from lerobot.robots.so_follower import SOFollowerConfig

    pair = BiSOFollower(BiSOFollowerConfig(*(SOFollowerConfig(port=f"/dev/none{i}") for i in "ab")))
    told = [], []
    for arm, notes in zip((pair.left_arm, pair.right_arm), told, strict=True):
        arm.bus = Bus(arm.bus.motors, notes)
    pair.left_arm.bus.lost = lost
    pair.connect = lambda calibrate: None
    joints = len(pair.action_features)
    safe = arm_behind(GuardConfig([0.0] * joints, [90.0] * joints, [5.0] * joints, on_stop=on_stop), pair)
    safe.stop("enough")
    for notes in told:
        assert notes[: (on_stop == "hold")] == ["Goal_Position"] * (on_stop == "hold")
        assert notes[-1] == f"off, torque {torque}"


def test_a_robot_that_can_not_be_asked_to_hold_is_warned_of(caplog):
    arm = Arm()
    del arm.config
    arm_behind(replace(LIMITS, on_stop="release"), arm)
    assert "on_stop" not in caplog.text
    SafeRobot(arm, RobotConfig(type="arm", guard=LIMITS), 10.0).guarded(["elbow.pos"])
    assert "arm has no disable_torque_on_disconnect: if its driver lets go" in caplog.text


def test_what_a_driver_says_and_does_not_declare_is_left_out():
    arm = Arm()
    arm.get_observation = lambda: {"elbow.pos": 10.0, "wireless_remote": b"00"}
    assert arm_behind(LIMITS, arm).observe() == {"elbow.pos": 10.0}


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


def test_wheels_stand_where_the_tool_on_them_can_not_be_held():
    base = Arm()
    base.observation_features, base.action_features = {"elbow.pos": float}, {"tool.x": float, "x.vel": float}
    base.send_action = lambda action: base.told.append(list(action.values())) or action
    safe = arm_behind(GuardConfig([-1.0] * 2, [100.0] * 2, [5.0] * 2), base)
    safe.begin()
    safe.act(np.array([1.0, 4.0]))
    safe.stop("enough")
    assert base.told == [[1.0, 4.0], [1.0, 0.0], "off, torque on"]


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
    with pytest.raises(RobotError, match=f"lerobot-calibrate.*--robot.calibration_dir={arm.calibration_dir}"):
        arm_behind(LIMITS, arm)
    assert arm.told == ["off, torque on"]  # a position would be one of a calibration that is not its own


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


def test_a_robot_with_a_method_of_that_name_is_not_simulated_and_its_heartbeat_is_short():
    class Plugin(Arm):
        def is_simulated(self):
            return False

    assert not SafeRobot(Plugin(), RobotConfig(type="arm", guard=LIMITS), 10.0).simulated
    with pytest.raises(ConfigError, match="heartbeat = 300 s; at most 2 s for hardware"):  # meant as milliseconds
        SafeRobot(Arm(), RobotConfig(type="arm", guard=replace(LIMITS, heartbeat=300.0)), 10.0)


def test_what_is_not_measured_counts_from_what_it_was_told_last(caplog):
    arm = Arm()
    arm.action_features = {"elbow.goal": float}
    safe = arm_behind(replace(LIMITS, max_step=[5.0]), arm)
    assert "elbow.goal: not measured" in caplog.text
    for begun in ([90.0], [85.0]):
        safe.begin()
        assert safe.act(np.array([90.0 if begun == [90.0] else 0.0])) == begun


def test_a_word_that_comes_too_late_stops_the_robot():
    safe = arm_behind(LIMITS)
    watchdog = Watchdog(safe, float("inf"))  # without its thread, as in a computer that was suspended
    watchdog.patience = 0.05
    watchdog.pat()
    time.sleep(0.1)
    assert safe.stopped is None
    watchdog.pat()
    assert safe.stopped == "nothing was heard from the control loop for 0.05 s"
