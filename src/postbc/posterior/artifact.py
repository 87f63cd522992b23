"""The posterior as one artifact folder: the model, the factors, what the held-out episodes say of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames
from postbc.posterior.calibration import Calibration
from postbc.posterior.factors import Factors
from postbc.posterior.models import Posterior, save_model
from postbc.posterior.plots import plot_calibration, plot_spread
from postbc.posterior.summary import summarise
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import check_manifest, write_manifest

CALIBRATION = "calibration.json"


def write_posterior(
    model: Posterior, frames: Frames, shape: tuple[int, PosteriorConfig], calibration: Calibration | None, target: Path
) -> dict[str, Any]:
    """Write everything to ``target``, whole or not at all; ``shape`` is (H, configuration). Returns the summary."""
    horizon, config = shape
    factors = Factors.of(model, frames, horizon, config.covariance)
    with atomic_folder(target) as building:
        save_model(model, building)
        factors.save(building)
        plot_spread(factors, frames, building / "spread.png")
        if calibration is not None:
            write_json(building / CALIBRATION, asdict(calibration))
            plot_calibration(calibration, building / "calibration.png")
        write_manifest(building)
    return summarise(factors, frames, horizon)


def calibrated_alpha(folder: Path) -> tuple[float | None, str]:
    """α of the posterior in ``folder`` by its calibration, and why; None when it was not calibrated."""
    check_manifest(folder)
    path = folder / CALIBRATION
    if not path.exists():
        return None, "not calibrated"
    found = read_json(path)
    return float(found["alpha"]), str(found["reason"])
