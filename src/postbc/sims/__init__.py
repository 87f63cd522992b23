"""Tasks as Gymnasium environments, scripted demonstrators, recordings. Simulators load when first used."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib import import_module

from postbc.errors import ConfigError
from postbc.sims.task import Dynamics, Task, TaskEnv
from postbc.sims.tasks.names import METAWORLD, PREFIX

__all__ = ["TASKS", "Dynamics", "Task", "TaskEnv", "get_task"]

EXTRAS = {"metaworld": "metaworld", "gymnasium_robotics": "fetch"}  # package → the extra that installs it


@cache
def _load(module: str, name: str) -> Task:
    try:
        loaded = import_module(f"postbc.sims.tasks.{module}")
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        raise ConfigError(
            f"{name} needs {error.name}: `make setup` installs it, elsewhere the extra {EXTRAS[error.name]} does."
        ) from error
    task = loaded.task(name)
    assert isinstance(task, Task)  # noqa: S101 - narrows the type
    return task


def _getter(module: str, name: str) -> Callable[[], Task]:
    """A function that imports ``postbc.sims.tasks.<module>`` and returns what its ``task(name)`` does."""
    return lambda: _load(module, name)


_MODULES = {
    "lift": "lift",
    "lift_wide": "lift",
    "can": "can",
    "square": "square",
    "fetch_pick_place": "fetch",
    "pusht": "pusht",
    "pusht_pixels": "pusht",
    "reach": "reach",
    "so101_lift": "so101",
    "so101_lift_marked": "so101",
    **{f"{PREFIX}{name}": "metaworld" for name in METAWORLD},
}
TASKS: dict[str, Callable[[], Task]] = {name: _getter(module, name) for name, module in _MODULES.items()}


def get_task(name: str) -> Task:
    """The task called ``name``, a key of TASKS. Raises ConfigError with the nearest names, or the extra to install."""
    if name not in TASKS:
        short = {task.removeprefix(PREFIX): task for task in TASKS}
        near = [short[match] for match in get_close_matches(name.removeprefix(PREFIX), short, 5, 0.6)]
        hint = f"did you mean {', '.join(near)}?" if near else f"there is {', '.join(_MODULES)}."
        raise ConfigError(f"task.env = {name!r} is unknown; {hint} `postbc tasks` lists all.")
    return TASKS[name]()
