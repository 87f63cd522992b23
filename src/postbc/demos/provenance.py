"""Whether demonstrations were recorded with the simulator that a task steps now."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

COMPARED: Final = (
    "env_name",
    "env_version",
    "versions",
    "env_kwargs/robots",
    "env_kwargs/control_freq",
    "env_kwargs/controller_configs",
)


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}/{key}" if path else str(key))
    else:
        yield path, list(tree) if isinstance(tree, tuple) else tree


def differences(recorded: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What of the simulator, its version and its controller differs, one line each; what is not recorded does not."""
    then, now = dict(_leaves(recorded)), dict(_leaves(expected))
    compared = [key for key in then if key in now and key.startswith(COMPARED)]
    return [f"{key} was {then[key]!r}, is {now[key]!r}" for key in sorted(compared) if then[key] != now[key]]


def other_simulator(recorded: str, expected: Mapping[str, Any]) -> str:
    """What of ``recorded``, robomimic's env_args as JSON, is not as ``expected`` of the installed simulator; "" for nothing."""
    try:
        description = json.loads(recorded)
    except (ValueError, RecursionError) as error:
        return f"env_args is not JSON ({error})"
    if not isinstance(description, Mapping):
        return f"env_args is {recorded[:40]}, expected a description of the simulator by key"
    return "; ".join(differences(description, expected))
