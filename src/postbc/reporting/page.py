"""The report: one HTML page that carries everything it shows and needs no network."""

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

from postbc.config import Config
from postbc.reporting import words
from postbc.reporting.figures import actions_figure, coverage_figure, curves_figure, success_figure
from postbc.reporting.lock import data_hashes, read_lock
from postbc.reporting.results import (
    LIVES,
    life_title,
    method_title,
    read_actions,
    read_curves,
    read_evaluation,
    read_registered,
)
from postbc.reporting.table import COVERAGE_HEADINGS, HEADINGS, coverage_rows, difference_rows, rows
from postbc.storage.checkpoint import flatten

_STAGES = {"finetune_sim": "In simulation", "finetune_robot": "On the robot, training episodes"}
_PICTURES = {
    "artifacts/posterior/spread.png": "How far the posterior's samples lie apart, over the demonstrations.",
    "artifacts/posterior/calibration.png": "The posterior against episodes that were held out from it.",
}


def _data_url(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _videos(root: Path) -> list[dict[str, Any]]:
    """Life by life the videos there are, BC first."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((root / "artifacts/videos").glob("*.*.mp4")):
        life, method, _ = path.name.split(".")
        found.setdefault(life, {})[method] = _data_url(path, "video/mp4")
    order = sorted(found, key=lambda life: (list(LIVES).index(life) if life in LIVES else len(LIVES), life))
    return [
        {
            "life": life_title(life),
            "clips": [(method_title(m), url) for m, url in sorted(found[life].items())],
        }
        for life in order
    ]


def _why_no_videos(root: Path) -> str:
    note = root / "artifacts/videos/README.txt"
    return note.read_text().strip() if note.is_file() else "This run recorded no videos."


def _lineage(root: Path, methods: list[str]) -> list[tuple[str, str, str]]:
    """Who made it, what, its hash: the demonstrations first, then every stage before this page."""
    asked = ("", *methods)  # dvc.lock keeps what a method that is no longer asked for has made
    stages = [s for s in read_lock(root) if s.name != "report" and s.name.partition("@")[2] in asked]
    data = [("data", path, md5) for path, md5 in data_hashes(root, stages).items()]
    return data + [(s.name, path, md5) for s in stages for path, md5 in sorted(s.outs.items())]


def _settings(config: Config) -> list[tuple[str, str]]:
    """Every configuration value by its dotted name, but the registry's address, which may hold a password."""
    values = flatten(asdict(config))[1]
    return sorted((k.replace("/", "."), str(v)) for k, v in values.items() if k != "register/tracking_uri")


def _figures(root: Path, curves: dict[str, words.Curves]) -> dict[str, Any]:
    drawn = {_STAGES[stage]: found for stage, found in curves.items() if found}
    pictures = [(_data_url(root / p, "image/png"), text) for p, text in _PICTURES.items() if (root / p).is_file()]
    states = read_actions(root)
    return {
        "learning": curves_figure(drawn) if drawn else "",
        "pictures": pictures,
        "actions": actions_figure(states) if states else "",
    }


def _fetchable(models: list[dict[str, Any]]) -> str:
    """Name of a policy with a champion, PostBC's if there is one; empty when there is none."""
    names = [m["name"] for m in models if m["kind"] == "policy" and "champion" in m["aliases"]]
    return next((n for n in names if n.endswith("-postbc")), names[0] if names else "")


def build_page(root: Path, config: Config) -> str:
    """The HTML report of the run below ``root``; equal inputs give equal bytes.

    Raises DataError when the evaluation is missing or malformed. What else is missing is said to be missing.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    evaluation, models = read_evaluation(root), read_registered(root)
    curves = {stage: read_curves(root, stage, evaluation.methods) for stage in _STAGES}
    loader = PackageLoader("postbc.reporting", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        task=config.task,
        caveat=words.CAVEAT,
        answers=words.answers(evaluation, curves["finetune_sim"]),
        control=words.zero_control(evaluation),
        headings=HEADINGS,
        rows=rows(evaluation),
        differences=difference_rows(evaluation),
        success=success_figure(evaluation),
        coverage=coverage_figure(evaluation.coverage) if evaluation.coverage else "",
        coverage_headings=COVERAGE_HEADINGS,
        coverage_rows=coverage_rows(evaluation.coverage) if evaluation.coverage else [],
        **_figures(root, curves),
        videos=_videos(root),
        no_videos=_why_no_videos(root),
        models=models,
        champion=_fetchable(models),
        lineage=_lineage(root, config.methods),
        settings=_settings(config),
    )
