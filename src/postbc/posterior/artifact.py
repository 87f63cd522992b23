"""The posterior as one artifact folder: the model, the factors, what the held-out episodes say of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames
from postbc.demos.normalizer import half_range
from postbc.posterior.calibration import Calibration
from postbc.posterior.factors import Factors
from postbc.posterior.models import Posterior, save_model
from postbc.posterior.plots import plot_calibration, plot_spread
from postbc.posterior.summary import summarise
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import check_manifest, write_manifest

CALIBRATION = "calibration.json"
STATES = "states.safetensors"


def telling_states(model: Posterior, factors: Factors, frames: Frames) -> dict[str, Tensor]:
    """The demonstrated states of which the posterior is most certain, typically and least certain: what is seen, the action.

    ``rows`` (3, O), ``demonstrated`` (3, A) and the members' predictions ``members`` (3, E, A) of a chunk's first action,
    ``centre`` and ``half`` (A,) of the range of all demonstrated actions, ``half`` 0 where it never varied.
    """
    size, half = frames.action.shape[1], half_range(frames.action)
    order = (factors.std()[:, :size][:, half > 0] / half[half > 0]).mean(1).argsort()
    index = order[[0, len(order) // 2, -1]]
    rows = frames.rows(index)
    found = {
        "rows": rows,
        "demonstrated": frames.action[index],
        "members": model.predict(rows)[..., :size],
        "centre": (frames.action.amax(0) + frames.action.amin(0)) / 2,
        "half": half,
    }
    return {name: value.contiguous().cpu() for name, value in found.items()}


def write_posterior(
    model: Posterior, frames: Frames, shape: tuple[int, PosteriorConfig], calibration: Calibration | None, target: Path
) -> dict[str, Any]:
    """Write everything to ``target``, whole or not at all; ``shape`` is (H, configuration). Returns the summary."""
    horizon, config = shape
    factors = Factors.of(model, frames, horizon, config.covariance)
    with atomic_folder(target) as building:
        save_model(model, building)
        factors.save(building)
        save_file(telling_states(model, factors, frames), building / STATES)
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
