"""The ensemble against the closed form: do they agree on where little is known, are they calibrated, what do they cost?"""

import logging
import time
from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.coverage import demonstrations, frames_of, setting
from benchmarks.record import write
from benchmarks.scratch import scratch
from postbc.config import PosteriorConfig
from postbc.demos.normalizer import half_range
from postbc.posterior.calibration import calibrate, hold_out
from postbc.posterior.models import fit_posterior

TASKS, SIZES, HELD_OUT, SEED = ("lift", "metaworld/door-open", "metaworld/drawer-open"), (5, 20), 15, 2000
CONFIGS = {
    "ensemble": PosteriorConfig(members=100, hidden=64, steps=1500),
    "last_layer": PosteriorConfig(kind="last_layer", members=100, hidden=64, steps=1500),
}
SHIFT = 0.3  # of the observations' half range: standard deviation of what is added to be out of distribution


def one(task: str, size: int) -> dict[str, Any]:
    """Both kinds on one demonstration set."""
    episodes, horizon = demonstrations(task, SEED, None), setting(task).chunk
    seen, unseen = frames_of(task, episodes[:size]), frames_of(task, episodes[-HELD_OUT:])
    noise = torch.randn(unseen.obs.shape, generator=torch.Generator().manual_seed(0))
    away = unseen.obs + SHIFT * noise * (seen.obs.amax(0) - seen.obs.amin(0)) / 2
    row: dict[str, Any] = {}
    spreads = {}
    for kind, config in CONFIGS.items():
        begun = time.perf_counter()
        with scratch() as checkpoints:
            model, _ = fit_posterior(seen, horizon, config, 0, checkpoints)
        cost = time.perf_counter() - begun
        with scratch() as checkpoints:
            found = calibrate(hold_out(seen, horizon, replace(config, folds=3), 0, checkpoints), 0)
        places = {"seen": seen.obs, "held out": unseen.obs, "perturbed": away}
        spreads[kind] = {place: model.spread(obs, half_range(seen.action)) for place, obs in places.items()}
        means = {place: float(values.mean()) for place, values in spreads[kind].items()}
        evidence = {"kappa": found.kappa, "alpha_auto": found.alpha, "energy": found.energy_score["alpha"]}
        row[kind] = {"seconds": cost, **means, **evidence}
    rank = [spearmanr(*(spreads[kind][place] for kind in CONFIGS)).statistic for place in ("held out", "perturbed")]
    return {**row, "rank correlation held out": float(rank[0]), "rank correlation perturbed": float(rank[1])}


def main() -> None:
    """Compare, print, write benchmarks/results/kinds.json."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    rows = {f"{task}, {size}": one(task, size) for task in TASKS for size in SIZES}
    columns = ("seconds", "seen", "held out", "perturbed", "kappa", "alpha_auto", "energy")
    table = Table("set", "kind", *columns, "rank corr.", header_style="bold")
    for name, row in rows.items():
        for kind in CONFIGS:
            numbers = [f"{row[kind][column]:.2f}" for column in columns]
            table.add_row(name, kind, *numbers, f"{row['rank correlation held out']:.2f}")
    Console(width=150).print(table)
    Console().print(str(write("kinds", ("torch",), rows)))


if __name__ == "__main__":
    main()
