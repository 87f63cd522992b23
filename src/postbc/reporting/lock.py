"""What DVC recorded: hashes of each stage's inputs and outputs (dvc.lock), and of the data (data.dvc)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from postbc.errors import DataError


@dataclass(frozen=True)
class LockedStage:
    """One stage as it last ran: path → md5 (directories end with .dir), and the parameters that it read."""

    name: str
    deps: dict[str, str]
    outs: dict[str, str]
    params: dict[str, Any]


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML ({error}); restore it with `git checkout`.") from error
    return content if isinstance(content, dict) else {}


def _hashes(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {e["path"]: e[e.get("hash", "md5")] for e in entries if e.get(e.get("hash", "md5"))}


def read_lock(root: Path) -> list[LockedStage]:
    """Stages in ``root``/dvc.lock, by name; none where there is no lock."""
    stages = _read(root / "dvc.lock").get("stages", {})
    return [
        LockedStage(name, _hashes(s.get("deps", [])), _hashes(s.get("outs", [])), s.get("params", {}))
        for name, s in sorted(stages.items())
    ]


def data_hashes(root: Path, stages: list[LockedStage]) -> dict[str, str]:
    """Path → md5 of the demonstrations as ``stages`` read them; where none did, of what ``root``/*.dvc track."""
    read = {path: md5 for stage in stages for path, md5 in stage.deps.items() if path.startswith("data/")}
    if read:  # *.dvc may be older: `dvc repro --single-item` does not look at them
        return read
    tracked = [_hashes(_read(path)["outs"]) for path in sorted(root.glob("*.dvc")) if path.is_file()]
    return {path: md5 for hashes in tracked for path, md5 in hashes.items()}


def _touches(out: str, path: str) -> bool:
    return out == path or path.startswith(f"{out}/") or out.startswith(f"{path}/")


def ancestry(stages: list[LockedStage], path: str) -> list[LockedStage]:
    """The stage that made ``path`` (relative to the root) and every stage that it builds on, by name."""
    found: dict[str, LockedStage] = {}
    wanted = [path]
    while wanted:
        target = wanted.pop()
        for stage in stages:
            if stage.name not in found and any(_touches(out, target) for out in stage.outs):
                found[stage.name] = stage
                wanted.extend(stage.deps)
    return [found[name] for name in sorted(found)]
