"""The numbers of a finished run: evaluation, learning curves, registered models."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postbc.errors import DataError
from postbc.storage.atomic import read_json

EVALUATION = Path("metrics/evaluation.json")
REGISTERED = Path("metrics/registry.json")
LIVES = {  # in order; *_zero is the control, *_on_robot the same weights on the robot or its twin
    "pretrained": "pretrained",
    "pretrained_zero": "pretrained, latent noise zero",
    "finetuned_sim": "finetuned in simulation",
    "pretrained_on_robot": "pretrained, on the robot",
    "finetuned_sim_on_robot": "finetuned in simulation, on the robot",
    "finetuned_robot": "finetuned on the robot",
}
METHODS = {
    "bc": "BC",
    "sigma_bc": "σ-BC",
    "postbc": "PostBC",
    "postbc_mixture": "PostBC mixture",
    "postbc_conditional": "PostBC conditional",
}


@dataclass(frozen=True)
class Result:
    """Success of one policy over held-out episodes, in [0, 1]; low and high are its 95 % Wilson interval."""

    success: float
    low: float
    high: float
    episodes: int
    env_steps: int  # finetuning spent so far, in control steps
    mean_max_reward: float | None = None


@dataclass(frozen=True)
class Difference:
    """PostBC minus BC over the same starts, in [-1, 1], with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on one side of zero, else 0: no evidence."""
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Evaluation:
    """Results by life and method, paired differences by life, and coverage where the run measured it."""

    results: dict[str, dict[str, Result]]
    differences: dict[str, Difference]
    coverage: dict[str, Any] | None = None  # measure, methods, difference; see postbc.evaluation.coverage
    simulator: dict[str, Any] = field(default_factory=dict)  # what numbers must share to be compared
    policies: dict[str, dict[str, str]] = field(default_factory=dict)  # life → method → fingerprint of what was played

    @property
    def methods(self) -> list[str]:
        """Methods with a result, in the order that every table and figure keeps."""
        found = {method for row in self.results.values() for method in row}
        return sorted(found, key=lambda m: (list(METHODS).index(m) if m in METHODS else len(METHODS), m))


def life_title(life: str) -> str:
    """Words for a life's key."""
    return LIVES.get(life, life.replace("_", " "))


def method_title(method: str) -> str:
    """Words for a method's key."""
    return METHODS.get(method, method)


def difference_of(row: dict[str, float]) -> Difference:
    """A paired difference from its JSON."""
    return Difference(row["success"] if "success" in row else row["value"], row["low"], row["high"])


def _result(row: dict[str, Any]) -> Result:
    counts = int(row["episodes"]), int(row["env_steps"])
    return Result(row["success"], row["low"], row["high"], *counts, row.get("mean_max_reward"))


def read_evaluation(root: Path) -> Evaluation:
    """Read ``root``/metrics/evaluation.json.

    Raises DataError when it is missing or a number in it is.
    """
    path = root / EVALUATION
    try:
        raw = read_json(path)
        others = sorted(raw.keys() - LIVES.keys() - {"difference", "simulator", "policies", "coverage"})
        order = [*(k for k in LIVES if k in raw), *others]
        results = {life: {m: _result(row) for m, row in raw[life].items()} for life in order}
        differences = {k: difference_of(v) for k, v in raw.get("difference", {}).items()}
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run `dvc repro` (its evaluate stage writes it).") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no evaluation ({error!r}); run `dvc repro -f -s evaluate`.") from error
    return Evaluation(results, differences, raw.get("coverage"), raw.get("simulator", {}), raw.get("policies", {}))


def read_curve(path: Path) -> dict[str, list[float]]:
    """Columns of a learning curve's CSV, rows in order of env_steps.

    Where nobody looked at held-out starts in between, as on a robot, ``success`` is that of the training episodes.
    Raises DataError for a cell that is no number.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        numbers = [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in rows]
    except ValueError as error:
        raise DataError(f"{path}: {error}; expected numbers under {', '.join(rows[0])}.") from error
    if rows and "success" not in rows[0]:
        numbers = [{**row, "success": row["training_success"]} for row in numbers if row.get("training_episodes")]
    usable = [row for row in numbers if row.keys() >= {"env_steps", "success"}]
    usable.sort(key=lambda row: row["env_steps"])
    return {k: [r.get(k, float("nan")) for r in usable] for k in dict.fromkeys(k for row in usable for k in row)}


def read_curves(root: Path, stage: str, methods: list[str]) -> dict[str, dict[str, list[float]]]:
    """Method → columns of ``root``/plots/<stage>.<method>.csv; a missing or empty curve is left out."""
    files = {method: root / "plots" / f"{stage}.{method}.csv" for method in methods}
    found = {method: read_curve(path) for method, path in files.items() if path.is_file()}
    return {method: curve for method, curve in found.items() if curve.get("env_steps")}


def read_actions(root: Path) -> dict[str, dict[str, list[list[float]]]]:
    """State → who acts → sampled actions (S, A), from ``root``/plots/actions.csv; empty where a run did not sample."""
    path = root / "plots" / "actions.csv"
    found: dict[str, dict[str, list[list[float]]]] = {}
    if path.is_file():
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                values = [float(v) for k, v in row.items() if k.startswith("action_")]
                found.setdefault(row["state"], {}).setdefault(row["who"], []).append(values)
    return found


def read_registered(root: Path) -> list[dict[str, Any]]:
    """Rows that the register stage wrote; none when it has not run."""
    path = root / REGISTERED
    rows: list[dict[str, Any]] = read_json(path) if path.is_file() else []
    return rows
