"""Whether demonstrations were recorded with the simulator that a task steps now."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from postbc.errors import DataError, MismatchError
from postbc.sims.task import Task

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


def refuse_other_simulator(task: Task, options: Mapping[str, Any], recorded: str, name: str) -> None:
    """Compare ``recorded``, robomimic's env_args of the demonstration ``name`` as JSON, with what ``task`` is now.

    Raises MismatchError that names what differs, DataError where ``recorded`` is no description.
    """
    try:
        description = json.loads(recorded)
    except ValueError as error:
        raise DataError(f"{name}: env_args is not JSON ({error}).") from error
    if not isinstance(description, Mapping):
        raise DataError(f"{name}: env_args is {recorded[:40]}, expected a description of the simulator by key.")
    found = differences(description, task.describe(options))
    if found:
        raise MismatchError(
            f"{name} was recorded with another simulator than {task.name} steps now: {'; '.join(found)}. "
            "Record it again, install that version, or say task.other_simulator: true in conf/task to use it all the same."
        )
