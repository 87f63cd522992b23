"""A LeRobot teleoperator by which a person takes the arm over in the middle of an episode."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from postbc.config import TeleopConfig
from postbc.errors import ConfigError

_FIELD = "finetune_robot.robot.operator.teleop"
_CALIBRATION = Path(".work/lerobot")


def make_device(config: TeleopConfig) -> Any:
    """The LeRobot Teleoperator that params.yaml names, not connected. Raises ConfigError when LeRobot knows none such."""
    from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config

    _know(config.type, TeleoperatorConfig.get_known_choices)
    options: dict[str, Any] = {"id": config.type, "calibration_dir": _CALIBRATION, **config.options}
    try:
        return make_teleoperator_from_config(TeleoperatorConfig.get_choice_class(config.type)(**options))
    except TypeError as error:
        raise ConfigError(f"{_FIELD}.options: {error}") from error
    except ImportError as error:
        raise ConfigError(f"{_FIELD}.type = {config.type!r} needs a package that is not installed: {error}") from error


def _know(name: str | None, choices: Callable[[], Mapping[str, Any]]) -> None:
    """Import LeRobot's own teleoperators and then plugins until ``name`` is among the ``choices``."""
    if name not in choices():
        import lerobot.teleoperators as own

        for module in pkgutil.iter_modules(own.__path__, own.__name__ + "."):
            with suppress(ImportError):  # of a device whose driver is not installed
                if module.ispkg:
                    importlib.import_module(module.name)
    if name not in choices():
        from lerobot.utils.import_utils import register_third_party_plugins

        register_third_party_plugins()
    if name not in choices():
        raise ConfigError(f"{_FIELD}.type = {name!r}; LeRobot knows {', '.join(sorted(choices()))}.")


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

    def follow(self, toggled: Callable[[], bool]) -> None:
        """Take ``toggled`` for the person's word beside the device's own button, where it has one."""
        self._toggled = toggled

    def connect(self) -> None:
        """Connect the device once; what is half connected when that fails is disconnected."""
        if self._connected:
            return
        try:
            self.device.connect()
        except BaseException:
            if self.device.is_connected:
                self.device.disconnect()
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
        """Disconnect what :meth:`connect` connected."""
        if self._connected:
            self._connected = False
            self.device.disconnect()


def make_teleop(config: TeleopConfig, action_features: Mapping[str, Any]) -> Teleop | None:
    """The teleoperator that params.yaml names, None if it names none. Raises ConfigError if it does not fit the robot."""
    return None if config.type is None else Teleop(make_device(config), action_features)
