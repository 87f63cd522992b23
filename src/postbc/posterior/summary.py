"""How large the posterior noise is and where: numbers for metrics, a plot of spread along episodes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from postbc.demos.frames import Frames
from postbc.posterior.factors import Factors


def summarise(factors: Factors, frames: Frames, horizon: int) -> dict[str, Any]:
    """Size, rank and per-dimension share of the noise.

    ``spread`` is the root mean square noise over the root mean square deviation of the actions from their mean, so 1
    means noise as large as the actions themselves. ``rank`` is the mean participation ratio of the covariance's spectrum.
    """
    variance = factors.std().square().unflatten(1, (horizon, -1)).mean((0, 1))
    action = frames.action.var(0, unbiased=False)
    sample = factors.centred[:: max(1, len(frames) // 256)]
    spectrum = torch.linalg.svdvals(sample).square()
    rank = spectrum.sum(1).square() / spectrum.square().sum(1).clamp_min(1e-12)
    return {
        "spread": math.sqrt(float(variance.sum() / action.sum().clamp_min(1e-12))),
        "rank": float(rank.mean()),
        "share": {f"action_{i}": float(v / variance.sum().clamp_min(1e-12)) for i, v in enumerate(variance)},
    }


def plot_spread(factors: Factors, frames: Frames, path: Path) -> None:
    """Draw the first action's posterior standard deviation along every episode, over normalised time, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    scale = frames.action.std(0).clamp_min(1e-6)
    std = (factors.std()[:, : len(scale)] / scale).mean(1).cpu().numpy()
    episode, grid = frames.episode.cpu().numpy(), np.linspace(0, 1, 50)
    curves = []
    figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for number in range(frames.episodes):
        own = std[episode == number]
        curves.append(np.interp(grid, np.linspace(0, 1, len(own)), own))
        axis.plot(grid, curves[-1], color="tab:blue", alpha=min(0.35, 8 / frames.episodes), linewidth=1)
    axis.plot(grid, np.mean(curves, axis=0), color="tab:orange", linewidth=2, label="mean of episodes")
    axis.set(xlabel="share of the episode", ylabel="posterior std / action std", ylim=(0, None), xlim=(0, 1))
    axis.legend(frameon=False)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
