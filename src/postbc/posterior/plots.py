"""The posterior to look at: its spread along episodes, its calibration."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from postbc.demos.frames import Frames
from postbc.demos.normalizer import half_range
from postbc.posterior.calibration import Calibration
from postbc.posterior.factors import Factors

matplotlib.use("Agg")


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    figure.savefig(path, dpi=130, metadata={"Software": None})  # the same run gives the same bytes
    plt.close(figure)


def plot_calibration(calibration: Calibration, path: Path) -> None:
    """Draw the share of held-out residuals inside each level's interval against the level, as a PNG."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(4.2, 4), layout="constrained")
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    curves = dict(calibration.coverage)
    level = curves.pop("level")
    for name, inside in curves.items():
        axis.plot(level, inside, marker="o", label=name)
    axis.set(xlabel="level of the interval", ylabel="held-out residuals inside", xlim=(0, 1), ylim=(0, 1))
    axis.set_title(
        f"alpha: auto = {calibration.alpha:.2f} ({calibration.alpha_low:.2f} to {calibration.alpha_high:.2f})"
    )
    axis.legend(frameon=False, loc="upper left", fontsize=8)
    _save(figure, path)


def plot_spread(factors: Factors, frames: Frames, path: Path) -> None:
    """Draw the first action's posterior standard deviation along every episode, over normalised time, as a PNG."""
    from matplotlib import pyplot as plt

    varied, scale = half_range(frames.action) > 0, frames.action.std(0)
    std = (factors.std()[:, : len(scale)][:, varied] / scale[varied]).mean(1).cpu().numpy()
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
    _save(figure, path)
