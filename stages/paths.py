"""Where stages find and leave things; the same names stand in dvc.yaml."""

from pathlib import Path

from postbc.storage.journal import Journal

DEMOS = Path("artifacts/demos")
DATASET = Path("artifacts/dataset")
POSTERIOR = Path("artifacts/posterior")
PRETRAINED = Path("artifacts/pretrained")
FINETUNED_SIM = Path("artifacts/finetuned_sim")
FINETUNED_ROBOT = Path("artifacts/finetuned_robot")
VIDEOS = Path("artifacts/videos")
METRICS = Path("metrics")
PLOTS = Path("plots")
REPORT = Path("reports/index.html")
_RECORDINGS = Path("artifacts/recordings")
_CHECKPOINTS = Path(".work/checkpoints")
_LOCKS = Path(".work/robot")
_LIVE = Path(".work/live")


def checkpoint(stage: str, method: str = "") -> Path:
    """Where an interrupted stage leaves what it has; outside DVC's outputs, which DVC deletes before a stage runs."""
    return _CHECKPOINTS / f"{stage}.{method}".strip(".")


def recordings(task: str, method: str) -> Path:
    """What a robot has gone through in a task."""
    return _RECORDINGS / task / method


def lock(stage: str, method: str) -> Path:
    """What a stage of which one at a time may run locks."""
    return _LOCKS / f"{stage}.{method}.lock"


def journal(stage: str, method: str) -> Journal:
    """Where a run in progress writes its rows, for `postbc watch`."""
    return Journal(_LIVE / f"{stage}.{method}.jsonl")
