"""The posterior as one artifact folder: the ensemble, the factors, what they say about themselves."""

from pathlib import Path
from typing import Any

from postbc.demos.frames import Frames
from postbc.posterior.ensemble import Ensemble, save_ensemble
from postbc.posterior.factors import Factors
from postbc.posterior.summary import plot_spread, summarise
from postbc.storage.atomic import atomic_folder
from postbc.storage.manifest import write_manifest


def write_posterior(ensemble: Ensemble, frames: Frames, horizon: int, target: Path) -> dict[str, Any]:
    """Write ensemble, factors and plot to ``target``, whole or not at all; returns the summary."""
    factors = Factors.of(ensemble, frames)
    with atomic_folder(target) as building:
        save_ensemble(ensemble, building)
        factors.save(building)
        plot_spread(factors, frames, building / "spread.png")
        write_manifest(building)
    return summarise(factors, frames, horizon)
