"""Register what a pipeline run made: versions, results, aliases, one MLflow run for one content."""

import csv
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import batched
from pathlib import Path
from typing import Any

from postbc.config import Config
from postbc.config.robot import SIMULATED
from postbc.errors import DataError
from postbc.progress import track
from postbc.reporting.results import EVALUATION, Evaluation, read_evaluation
from postbc.storage.checkpoint import flatten, identity
from postbc.storage.manifest import fingerprint
from postbc.tracking.champion import Standing, champion, results_of
from postbc.tracking.client import METRICS_AT_ONCE, in_our_words, resolve_uri
from postbc.tracking.lineage import dvc_hashes, git_state
from postbc.tracking.models import ModelFolder, models_of
from postbc.tracking.registry import Registry

Versions = list[tuple[ModelFolder, int]]


def register_run(root: Path, config: Config) -> list[dict[str, Any]]:
    """Register every model of the run below ``root``; a row for each: name, version, life, sha256, aliases.

    Registering the same content again adds no version and no MLflow run, and moves no alias that is there.
    Raises DataError for a missing model, for an evaluation that is missing or of other policies, IntegrityError for altered
    bytes.
    """
    registry = Registry(resolve_uri(config.register.tracking_uri, root), config.register.prefix)
    evaluation = read_evaluation(root)
    setting = _setting(config, evaluation.simulator)
    git = git_state(root)
    models = [
        replace(m, path=root / m.path, tags=git | dvc_hashes(root, m.path.as_posix())) for m in models_of(root, config)
    ]
    _require_measured(models, evaluation)
    content = identity([fingerprint(m.path) for m in models], _settings(config), asdict(evaluation))
    with in_our_words(registry.uri, "Registering the run"):
        run_id, finished = _open_run(registry, content, config)
        steps = track(models, "register", len(models))
        versions = [(model, registry.register(model, run_id)) for model in steps]
        if not finished or _outdated(registry, versions, content):
            _record(registry, run_id, versions, evaluation, {"evaluated_on": setting, "content": content})
        if not finished:
            _log_run(registry, run_id, config, evaluation, root)
        return [_row(registry, model, version) for model, version in versions]


def _require_measured(models: list[ModelFolder], evaluation: Evaluation) -> None:
    for model in models:
        measured = evaluation.policies.get(model.life, {}).get(model.method)
        if _numbers(model, evaluation) and measured != fingerprint(model.path):
            raise DataError(
                f"{EVALUATION} measured another policy than the one in {model.path}, or does not say which: run `dvc repro`."
            )


def _settings(config: Config) -> dict[str, Any]:
    """Every configuration value by its dotted name, but where the registry is: that may hold a password."""
    values = flatten(asdict(config))[1]
    return {k.replace("/", "."): v for k, v in values.items() if not k.startswith("register/")}


def _setting(config: Config, simulator: dict[str, Any]) -> str:
    """Results compare only under one task, one robot, one simulator and its starts; this names them."""
    robot = config.finetune_robot.robot
    # On hardware nothing is evaluated, so it is the same robot at another port and within other limits.
    played = (robot.options, asdict(robot.guard)) if robot.type == SIMULATED else ()
    return identity(asdict(config.task), robot.type, played, simulator)[:16]


def _open_run(registry: Registry, content: str, config: Config) -> tuple[str, bool]:
    """The MLflow run of this content and whether it was finished; made when there is none."""
    query = f"tags.content = '{content}'"
    found = registry.client.search_runs([registry.experiment_id], query, max_results=1)
    if found:
        return str(found[0].info.run_id), found[0].info.status == "FINISHED"
    name = f"{config.task.name} {content[:8]}"
    run = registry.client.create_run(registry.experiment_id, tags={"content": content}, run_name=name)
    return str(run.info.run_id), False


def _outdated(registry: Registry, versions: Versions, content: str) -> bool:
    """Whether a version shows another run's results, or an alias is missing (deleted by hand, or never set)."""
    return any(
        registry.version(model.name, version).tags.get("content") != content
        or not {"candidate", "champion"} <= registry.aliases(model.name).keys()
        for model, version in versions
    )


def _numbers(model: ModelFolder, evaluation: Evaluation) -> dict[str, float]:
    """Results of a policy, by place; empty for other kinds and for policies that were not evaluated."""
    found = results_of(evaluation, model.life, model.method) if model.kind == "policy" else {}
    keys = ("success", "low", "high", "episodes")
    numbers = {f"{place}.{k}": float(getattr(r, k)) for place, r in found.items() for k in keys}
    if found:
        numbers["env_steps"] = float(max(r.env_steps for r in found.values()))
    return numbers


def _record(registry: Registry, run_id: str, versions: Versions, evaluation: Evaluation, under: dict[str, str]) -> None:
    """Results and the tags ``under`` on the versions, then the aliases: candidate is this run's last, champion the best."""
    for model, version in versions:
        registry.log_results(model.name, version, run_id, _numbers(model, evaluation))
        for key, value in under.items():
            registry.client.set_model_version_tag(model.name, str(version), key, value)
        registry.set_alias(model.name, version, "candidate")
    for kind in ("posterior", "policy", "critics"):
        for name in dict.fromkeys(m.name for m, _ in versions if m.kind == kind):
            last = max(v for m, v in versions if m.name == name)
            best = {"policy": _champion, "critics": _of_champion}.get(kind, lambda *_: None)
            registry.set_alias(name, best(registry, name, under["evaluated_on"]) or last, "champion")


def _champion(registry: Registry, name: str, setting: str) -> int | None:
    """The best version of a policy's name under this setting, of those that can still be fetched."""
    same = [v for v in registry.versions(name) if v.tags.get("evaluated_on") == setting]
    rivals = [v for v in same if registry.reachable(v)]
    return champion([_standing(v) for v in rivals])


def _of_champion(registry: Registry, name: str, _: str) -> int | None:
    """The critics that were trained with their policy's champion, in whichever run; None where it has none."""
    policy = name.removesuffix("-critics")
    leader = registry.aliases(policy).get("champion")
    if leader is None:
        return None
    led = registry.version(policy, leader)
    same = [v for v in registry.versions(name) if (v.run_id, v.tags["life"]) == (led.run_id, led.tags["life"])]
    return int(same[-1].version) if same else None


def _standing(version: Any) -> Standing:
    tags = version.tags
    low = {place: float(tags[f"{place}.low"]) for place in ("robot", "simulator") if f"{place}.low" in tags}
    return Standing(int(version.version), low, int(float(tags.get("env_steps", 0))))


def _curves(root: Path, methods: list[str]) -> Iterator[tuple[str, float, int]]:
    """(metric, value, step) of every training and learning curve of ``methods``: ``plots/<stage>.<method>.csv``."""
    # DVC leaves behind what a method that is no longer asked for has made.
    for path in sorted(p for m in methods for p in (root / "plots").glob(f"*.{m}.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                step = int(float(row.pop("step", None) or row.pop("env_steps", None) or 0))
                for column, cell in row.items():
                    if cell:
                        yield f"{path.stem}.{column}", float(cell), step


def _log_run(registry: Registry, run_id: str, config: Config, evaluation: Evaluation, root: Path) -> None:
    """Parameters, results and curves on the MLflow run, which then counts as finished."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    params = [Param(key, str(value)[:500]) for key, value in _settings(config).items()]
    numbers = {
        f"{life}.{method}.{key}": float(value)
        for life, row in evaluation.results.items()
        for method, result in row.items()
        for key, value in asdict(result).items()
        if value is not None
    }
    numbers |= {f"difference.{life}": d.value for life, d in evaluation.differences.items()}
    metrics = [Metric(key, value, now, 0) for key, value in numbers.items()]
    registry.client.log_batch(run_id, metrics, params, [RunTag(k, v) for k, v in git_state(root).items()])
    for part in batched(
        (Metric(key, value, now, step) for key, value, step in _curves(root, config.methods)), METRICS_AT_ONCE
    ):
        registry.client.log_batch(run_id, list(part))
    registry.client.set_terminated(run_id, "FINISHED")


def _row(registry: Registry, model: ModelFolder, version: int) -> dict[str, Any]:
    aliases = registry.aliases(model.name)
    return {
        "name": model.name,
        "version": version,
        "kind": model.kind,
        "method": model.method,
        "life": model.life,
        "sha256": fingerprint(model.path),
        "aliases": sorted(alias for alias, number in aliases.items() if number == version),
    }
