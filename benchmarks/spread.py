"""How the posterior's spread falls with the number of demonstrations, and whether the error of its mean falls with it."""

import logging
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.coverage import LADDER, demonstrations, frames_of, setting
from benchmarks.kinds import HELD_OUT, SEED, TASKS
from benchmarks.record import write
from benchmarks.scratch import scratch
from postbc.config import PosteriorConfig
from postbc.demos.normalizer import half_range
from postbc.posterior.models import fit_posterior

FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "spread.png"
CONFIG = PosteriorConfig(members=100, hidden=64, steps=1500)
LINES = {
    "seen": ("spread, states trained on", "tab:blue", "o-"),
    "held out": ("spread, held-out states", "tab:orange", "s-"),
    "error": ("error of the mean, held-out states", "0.35", "^--"),
}


def one(task: str, size: int) -> dict[str, float]:
    """Root mean squares in half ranges of the action demonstrated in the whole sequence."""
    episodes, horizon = demonstrations(task, SEED, None), setting(task).chunk
    seen, unseen, all_of = (frames_of(task, part) for part in (episodes[:size], episodes[-HELD_OUT:], episodes))
    with scratch() as checkpoints:
        model, _ = fit_posterior(seen, horizon, CONFIG, 0, checkpoints)
    each = half_range(all_of.action)
    half = each.repeat(horizon)
    wrong = (model.predict_frames(unseen).mean(1) - unseen.all_chunks(horizon))[:, half > 0] / half[half > 0]
    spreads = {name: model.spread(part.obs, each) for name, part in (("seen", seen), ("held out", unseen))}
    return {
        **{k: float(v.square().mean().sqrt()) for k, v in spreads.items()},
        "error": float(wrong.square().mean().sqrt()),
    }


def draw(rows: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    """One panel a task, as a PNG."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(rows), figsize=(3.6 * len(rows), 3.4), layout="constrained", sharey=True)
    for axis, (task, by_size) in zip(axes, rows.items(), strict=True):
        for name, (label, color, style) in LINES.items():
            axis.plot(list(by_size), [row[name] for row in by_size.values()], style, color=color, label=label)
        axis.set(xscale="log", xlabel="demonstrations", title=task)
        axis.set_xticks(list(by_size), [str(size) for size in by_size])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("half ranges of the action")
    axes[0].set_ylim(0, None)  # shared, and known only now
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})  # the same numbers give the same bytes
    plt.close(figure)


def main() -> None:
    """Measure, draw, print, write."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    rows = {task: {size: one(task, size) for size in LADDER[task][0]} for task in TASKS}
    table = Table("set", *LINES, header_style="bold")
    for task, by_size in rows.items():
        for size, row in by_size.items():
            table.add_row(f"{task}, {size}", *(f"{row[name]:.3f}" for name in LINES))
    Console(width=100).print(table)
    draw(rows, FIGURE)
    numbers: dict[str, Any] = {task: {str(size): row for size, row in by.items()} for task, by in rows.items()}
    Console().print(str(write("spread", ("torch",), numbers)))


if __name__ == "__main__":
    main()
