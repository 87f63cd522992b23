"""Tasks as Gymnasium environments, scripted demonstrators, recordings. Simulators load when first used."""

from collections.abc import Callable
from functools import cache
from importlib import import_module

from postbc.errors import ConfigError
from postbc.sims.task import Dynamics, Task, TaskEnv

__all__ = ["TASKS", "Dynamics", "Task", "TaskEnv", "get_task"]


def _getter(module: str) -> Callable[[], Task]:
    """A function that imports ``postbc.sims.<module>`` and returns its ``TASK``."""

    @cache
    def get() -> Task:
        task = import_module(f"postbc.sims.{module}").TASK
        assert isinstance(task, Task)  # noqa: S101 - narrows the type
        return task

    return get


TASKS: dict[str, Callable[[], Task]] = {name: _getter(name) for name in ("lift", "pusht", "reach")}


def get_task(name: str) -> Task:
    """The task called ``name``, a key of TASKS. Raises ConfigError that lists the known ones."""
    if name not in TASKS:
        raise ConfigError(f"task.env = {name!r} is unknown; there is {', '.join(sorted(TASKS))}.")
    return TASKS[name]()
