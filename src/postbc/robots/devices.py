"""LeRobot's devices by name: its own, of which it knows only those that were imported, and those of plugins."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from postbc.errors import ConfigError
from postbc.storage.manifest import sha256_file

CALIBRATION = Path("calibration")  # in folders by kind, as LeRobot keeps them: a leader may have its follower's id


def make_device(
    field: str, name: str | None, registry: type, make: Callable[[Any], Any], options: Mapping[str, Any]
) -> Any:
    """A LeRobot device, not connected. ``registry`` is the base of configurations of its kind, ``make`` builds from one.

    Raises ConfigError, which names ``field`` of params.yaml, where LeRobot knows no such device, the device other options, or
    a package is missing.
    """
    import draccus

    _know(field, name, registry)
    kind = registry.__module__.split(".")[1]  # robots, teleoperators
    if "cameras" in options:
        _import_all("lerobot.cameras")
    given = _settings(kind, name, options)
    try:
        return make(draccus.decode(registry.get_choice_class(name), given))  # type: ignore[attr-defined]
    except (TypeError, ValueError, draccus.utils.DraccusException) as error:
        raise ConfigError(f"{field}.options: {error}") from error
    except ImportError as error:
        raise ConfigError(f"{field}.type = {name!r} needs a package that is not installed: {error}") from error


def _settings(kind: str, name: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    folder = options.get("calibration_dir") or str(CALIBRATION / kind)
    return {"id": name, **options, "calibration_dir": folder}


def calibration(kind: str, name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Hex sha256 by file of what ``lerobot-calibrate`` has written for the device; of two arms ``ID_left``, ``ID_right``."""
    given = _settings(kind, name, options)
    files = [Path(given["calibration_dir"], f"{given['id']}{arm}.json") for arm in ("", "_left", "_right")]
    return {file.name: sha256_file(file) for file in files if file.is_file()}


def _import_all(name: str) -> None:
    """Import every device of LeRobot's package ``name``, which makes it known."""
    package = importlib.import_module(name)
    for module in pkgutil.iter_modules(package.__path__, f"{name}."):
        with suppress(ImportError):  # of a device whose driver is not installed
            if module.ispkg:
                importlib.import_module(module.name)


def _know(field: str, name: str | None, registry: Any) -> None:
    """Import LeRobot's own devices, then plugins, until ``name`` is known."""
    if name not in registry.get_known_choices():
        _import_all(registry.__module__.rpartition(".")[0])
    if name not in registry.get_known_choices():
        from lerobot.utils.import_utils import register_third_party_plugins

        register_third_party_plugins()
    if name not in registry.get_known_choices():
        raise ConfigError(f"{field}.type = {name!r}; LeRobot knows {', '.join(sorted(registry.get_known_choices()))}.")
