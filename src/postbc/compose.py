"""A run's configuration, composed from presets and params.yaml.

Presets, the later of which win: ``conf/task/`` supplies a task's own values, ``conf/robot/`` a robot and its limits,
``conf/protocol/`` how it is learned on, ``conf/size/`` scales the work. ``params.yaml`` chooses one of each and overrides them.
Unknown keys and impossible values are refused before any work starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from postbc.config import Config, TaskConfig
from postbc.errors import ConfigError

GROUPS = {"task": None, "robot": "twin", "protocol": "online", "size": None}  # folders of presets, and their defaults
_WORK = {"ingest", "posterior", "pretrain", "finetune_sim", "finetune_robot", "evaluate", "register"}
SECTIONS = {  # of a preset, by its folder, as dvc.yaml tracks them
    "task": {"task"} | _WORK,
    "robot": {"finetune_robot"},
    "protocol": {"finetune_sim", "finetune_robot"},
    "size": _WORK,
}


def _schema() -> DictConfig:
    """Config as OmegaConf's typed container, open for merging (it takes over that the dataclasses are frozen)."""

    def unlock(node: Any) -> None:
        OmegaConf.set_readonly(node, None)
        for name in (n for n in node if OmegaConf.is_dict(node._get_node(n))):
            unlock(node._get_node(name))

    schema: DictConfig = OmegaConf.structured(Config)
    unlock(schema)
    return schema


def _selection(params: DictConfig, folder: Path) -> dict[str, str]:
    """Folder → the preset in it that params.yaml names."""
    chosen = {}
    for group, otherwise in GROUPS.items():
        name = params.pop(group, otherwise)
        known = sorted(p.stem for p in (folder / group).glob("*.yaml"))
        if name not in known:
            raise ConfigError(f"params.yaml says {group}: {name}; there is {', '.join(known)} (conf/{group}/).")
        chosen[group] = name
    return chosen


def _require_sections(path: Path, wanted: set[str]) -> None:
    """Raise ConfigError unless the preset at ``path`` has the sections that dvc.yaml tracks, all of them and no other."""
    found = {str(key) for key in OmegaConf.load(path)}
    if missing := sorted(wanted - found):
        lines = ", ".join(f"`{section}: {{}}`" for section in missing)
        raise ConfigError(f"{path} lacks sections that DVC looks for: add {lines}.")
    if strange := sorted(found - wanted):
        raise ConfigError(f"{path}: DVC would not see a change of {', '.join(strange)} there; say it in params.yaml.")


@contextmanager
def _in_our_words(otherwise: str) -> Iterator[None]:
    """Turn the libraries' errors into ConfigError that names the key, or else ``otherwise``."""
    try:
        yield
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename} is missing; run commands in the project's root.") from error
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        where = getattr(error, "full_key", None) or otherwise
        raise ConfigError(f"{where}: {str(error).splitlines()[0]}; all fields: docs/configuration.md.") from error


def load_preset(name: str, root: Path = Path()) -> TaskConfig | None:
    """The task of ``root``/conf/task/``name``.yaml, None if there is no such preset. Raises ConfigError like load_config."""
    folder = (root / "conf").resolve()
    if name not in {path.stem for path in (folder / "task").glob("*.yaml")}:
        return None
    with _in_our_words(f"conf/task/{name}.yaml"), initialize_config_dir(str(folder), version_base="1.3"):
        preset = compose("config", overrides=[f"task={name}", "size=default"])
        task = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TaskConfig), preset.task))
    assert isinstance(task, TaskConfig)  # noqa: S101 - to_object of a structured TaskConfig
    return task


def load_config(root: Path = Path()) -> Config:
    """Compose ``root``/params.yaml with the presets in ``root``/conf.

    Raises ConfigError for a missing file, an unknown key, a value of the wrong type or an impossible value.
    """
    folder = (root / "conf").resolve()
    with _in_our_words("params.yaml with conf/"):
        params = OmegaConf.load(root / "params.yaml")
        if not isinstance(params, DictConfig):
            raise ConfigError(f"{root / 'params.yaml'} is not a mapping of sections.")
        chosen = _selection(params, folder)
        with initialize_config_dir(str(folder), version_base="1.3"):
            presets = compose("config", overrides=[f"{group}={name}" for group, name in chosen.items()])
        for group, name in chosen.items():
            _require_sections(folder / group / f"{name}.yaml", SECTIONS[group])
        sections = {field.name for field in fields(Config)}
        unknown = sorted(str(key) for key in params.keys() - sections)
        if unknown:
            raise ConfigError(
                f"params.yaml: {', '.join(unknown)} is no section; there is {', '.join(sorted(sections))}."
            )
        OmegaConf.set_struct(presets, False)  # Hydra closes it, which would close free-form options too
        merged = OmegaConf.merge(_schema(), presets, params)
        config = OmegaConf.to_object(merged)
    assert isinstance(config, Config)  # noqa: S101 - to_object of a structured Config
    if config.task.name != chosen["task"]:
        path = folder / "task" / f"{chosen['task']}.yaml"
        raise ConfigError(
            f"{path}: task.name is {config.task.name}; it must be the file's, by which DVC knows the data."
        )
    return config
