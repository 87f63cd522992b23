"""A robot of joint positions, or of what a test names, that notes what it is told."""

from dataclasses import replace
from types import SimpleNamespace

from sessions import POLICY

from postbc.config.robot import GuardConfig, RobotConfig
from postbc.robots import arming
from postbc.robots.environment import RobotEnv
from postbc.robots.guard import limits_fingerprint
from postbc.robots.safe import SafeRobot

LIMITS = GuardConfig([0.0], [90.0], [5.0])


class Arm:
    """A robot of joint positions that notes what it is told."""

    name, is_calibrated, is_connected = "arm", True, True
    calibration_dir = "calibration/robots"

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
    return arming.Arming(config.type, POLICY, limits_fingerprint(config, fps), "Ada", 0.0, 10.0, "0" * 32, "", "")


def arm_behind(guard, arm=None):
    config = RobotConfig(type="arm", guard=guard)
    safe = SafeRobot(arm or Arm(), config, 10.0)
    safe.guarded(list(safe.action_features))
    safe.connect(armed(config, 10.0))
    return safe


def arm_env(action, seen):
    """A simulated arm of one number, and its environment, in an episode."""
    base, config = Arm(), RobotConfig(type="arm", arm="simulated", guard=GuardConfig([-1.0], [1.0]))
    base.action_features, base.observation_features = {action: float}, {seen: float}
    base.is_simulated, base.place, base.succeeded = True, lambda seed: None, lambda: False
    safe = SafeRobot(base, config, 10.0)
    env = RobotEnv(safe, replace(config, state=[seen], action=[action]), 10.0)
    safe.connect()
    env.reset(seed=0)
    return base, env
