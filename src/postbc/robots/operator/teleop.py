"""A LeRobot teleoperator by which a person takes the arm over in the middle of an episode."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from inspect import signature
from typing import Any

from postbc.config.robot import TeleopConfig
from postbc.errors import ConfigError, RobotError
from postbc.robots.devices import make_device
from postbc.robots.lock import hold_device

_FIELD = "finetune_robot.robot.operator.teleop"
_log = logging.getLogger(__name__)


class Teleop:
    """The person's action while the person has the arm.

    Args:
        device: a LeRobot Teleoperator, not connected.
        action_features: the robot's, which must be the device's as well.

    Raises ConfigError when they differ.
    """

    def __init__(self, device: Any, action_features: Mapping[str, Any]) -> None:
        own, robot = dict(device.action_features), dict(action_features)
        if own != robot:
            raise ConfigError(
                f"{_FIELD}: the teleoperator gives {', '.join(map(str, own))} and the robot takes {', '.join(robot)}; "
                "they must be the same."
            )
        self.device = device
        self._toggled: Callable[[], bool] = lambda: False
        self._connected = False
        self._locks: list[int] = []

    def follow(self, toggled: Callable[[], bool]) -> None:
        """Take ``toggled`` for the person's word beside the device's own button, where it has one."""
        self._toggled = toggled

    def connect(self) -> None:
        """Connect the device once; what is half connected when that fails is disconnected.

        Raises RobotError for a device that is not calibrated: nobody is asked at its terminal while a robot is connected. And
        for one whose port is taken, by this session's robot for instance: a leader would let go of its motors.
        """
        if self._connected:
            return
        self._locks = hold_device(self.device.name, asdict(self.device.config))
        asks = "calibrate" in signature(self.device.connect).parameters
        try:
            self.device.connect(**({"calibrate": False} if asks else {}))
            if not self.device.is_calibrated:
                raise RobotError(
                    f"{_FIELD}: the teleoperator is not calibrated: run `lerobot-calibrate` with the same --teleop.type, "
                    f"port and id, and --teleop.calibration_dir={self.device.calibration_dir}."
                )
        except BaseException:
            if self.device.is_connected:
                self.device.disconnect()
            self._release()
            raise
        self._connected = True

    def intervening(self) -> bool:
        """Whether the person has the arm now."""
        return self._connected and (self._toggled() or self._pressed())

    def _pressed(self) -> bool:
        """The device's own word."""
        if not hasattr(self.device, "get_teleop_events"):
            return False
        from lerobot.teleoperators import TeleopEvents

        return bool(self.device.get_teleop_events().get(TeleopEvents.IS_INTERVENTION, False))

    def action(self) -> dict[str, float] | None:
        """What the person commands, in the robot's units; None while the policy has the arm."""
        if not self.intervening():
            return None
        return {str(name): float(value) for name, value in self.device.get_action().items()}

    def disconnect(self) -> None:
        """Disconnect what :meth:`connect` connected; a device that is gone already is no error."""
        if self._connected:
            self._connected = False
            try:
                self.device.disconnect()
            except Exception:  # an unplugged leader raises what its driver likes
                _log.warning("the teleoperator could not be disconnected", exc_info=True)
            self._release()

    def _release(self) -> None:
        while self._locks:
            os.close(self._locks.pop())


def make_teleop(config: TeleopConfig, action_features: Mapping[str, Any]) -> Teleop | None:
    """The teleoperator that params.yaml names, None if it names none. Raises ConfigError if it does not fit the robot."""
    if config.type is None:
        return None
    from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config

    made = make_device(_FIELD, config.type, TeleoperatorConfig, make_teleoperator_from_config, config.options)
    return Teleop(made, action_features)
