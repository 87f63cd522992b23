"""Interventions by a LeRobot teleoperator."""

import os
import termios
from dataclasses import asdict, replace

import pytest
from people import NO_PAGE, lflags, person, preparing, until

from postbc.config.robot import TeleopConfig
from postbc.errors import ConfigError, RobotError
from postbc.robots.lock import hold_device
from postbc.robots.operator import Teleop, make_teleop


@pytest.fixture(scope="module")
def leader():
    """A LeRobot teleoperator, registered as a plugin would be."""
    import leader_arm

    return leader_arm


TELEOP = TeleopConfig("test_leader", {"joints": 2})
ACTIONS = {"joint_0.pos": float, "joint_1.pos": float}


def test_the_persons_action_while_the_person_has_the_arm(leader, terminal):
    teleop = make_teleop(TELEOP, ACTIONS)
    with person(NO_PAGE, terminal[1], teleop=teleop) as operator:
        assert not teleop.device.is_connected
        waiting = preparing(operator.desk, lambda: operator.prepare(1, 0))
        until(lambda: teleop.device.is_connected)
        os.write(terminal[0], b"\n")
        assert waiting.end() is None
        assert teleop.action() is None
        os.write(terminal[0], b"i")
        until(operator.intervening)
        assert teleop.action() == {"joint_0.pos": 0.5, "joint_1.pos": 0.5}
        os.write(terminal[0], b"i")
        until(lambda: not operator.intervening())
        teleop.device.button = True  # its own word
        assert operator.intervening()
        assert teleop.action() is not None
    assert (teleop.device.connects, teleop.device.disconnects) == (1, 1)
    assert teleop.action() is None


def test_a_device_that_fails_to_connect_is_let_go(leader, terminal):
    teleop = make_teleop(replace(TELEOP, options={"joints": 2, "broken": True}), ACTIONS)
    with person(NO_PAGE, terminal[1], teleop=teleop) as operator:
        with pytest.raises(OSError, match="no motor"):
            operator.prepare(1, 0)
        assert lflags(terminal[1]) & termios.ICANON
    assert (teleop.device.connects, teleop.device.disconnects) == (1, 1)


def test_a_device_at_the_robots_own_port_is_not_connected(leader):
    teleop = make_teleop(TELEOP, ACTIONS)
    (held,) = hold_device("test_leader", asdict(teleop.device.config))
    with pytest.raises(RobotError, match="another session runs with test_leader"):
        teleop.connect()
    assert teleop.device.connects == 0
    os.close(held)
    teleop.connect()
    teleop.disconnect()
    os.close(*hold_device("test_leader", asdict(teleop.device.config)))


def test_a_device_that_is_gone_does_not_keep_anything_from_ending(leader, monkeypatch, caplog):
    teleop = make_teleop(TELEOP, ACTIONS)
    teleop.connect()
    monkeypatch.setattr(teleop.device, "disconnect", lambda: 1 / 0)
    teleop.disconnect()
    assert "could not be disconnected" in caplog.text


def test_a_device_that_is_not_calibrated_is_refused_and_nobody_is_asked(leader, monkeypatch):
    teleop = make_teleop(TELEOP, ACTIONS)
    monkeypatch.setattr(type(teleop.device), "is_calibrated", False)
    with pytest.raises(RobotError, match=r"--teleop\.calibration_dir=calibration/teleoperators"):
        teleop.connect()
    assert (teleop.device.connects, teleop.device.disconnects) == (1, 1)
    assert teleop.device.asked == 0


def test_a_teleoperator_must_fit_the_robot_and_be_known(leader):
    with pytest.raises(ConfigError, match=r"gives joint_0\.pos, joint_1\.pos and the robot takes action\.0"):
        make_teleop(TELEOP, {"action.0": float})
    with pytest.raises(ConfigError, match=r"LeRobot knows .*so101_leader.*test_leader"):
        make_teleop(TeleopConfig("no_such_leader"), ACTIONS)
    with pytest.raises(ConfigError, match="wings"):
        make_teleop(TeleopConfig("test_leader", {"wings": 2}), ACTIONS)
    assert make_teleop(TeleopConfig(), ACTIONS) is None


def test_the_leader_arm_of_an_so101_fits_its_follower(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("scservo_sdk")
    joints = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    actions = {f"{joint}.pos": float for joint in joints}
    assert isinstance(make_teleop(TeleopConfig("so101_leader", {"port": "/dev/null"}), actions), Teleop)
