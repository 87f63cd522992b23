"""Coverage and return of cloning, uniform noise and PostBC against the number of demonstrations, on random MDPs."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import write
from postbc.posterior.tabular import (
    Counts,
    Mdp,
    Policy,
    behavioural_cloning,
    coverage,
    expected_return,
    postbc_mixture,
    random_mdp,
    soft_optimal,
    theorem_constants,
    uniform_noise,
    visit_counts,
)
from postbc.progress import track

matplotlib.use("Agg")

STATES, ACTIONS, HORIZON = 8, 5, 5
CONCENTRATION, TEMPERATURE = 0.3, 0.05  # some states are rare; the demonstrator is good and not perfect
DELTA = 0.1
LIKELY = 0.05  # coverage is also measured over the actions that the demonstrator plays more often than this
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "tabular.png"
METHODS = {
    "bc": ("BC", "#5b7fb4", "o-"),
    "uniform": ("uniform noise, same α", "#8a8f5a", "s-"),
    "postbc": ("PostBC", "#d2691e", "D-"),
    "matched": ("uniform noise, same mean return as PostBC", "#4f9d8f", "^:"),
}
Case = tuple[Mdp, Policy, Counts]


def cases(size: int, number: int, rng: np.random.Generator) -> list[Case]:
    """``number`` random MDPs, each with a soft-optimal demonstrator and the counts of ``size`` demonstrations."""
    drawn = []
    for _ in range(number):
        mdp = random_mdp(STATES, ACTIONS, HORIZON, rng, CONCENTRATION)[0]
        demonstrator = soft_optimal(mdp, TEMPERATURE)
        drawn.append((mdp, demonstrator, visit_counts(mdp, demonstrator, size, rng)))
    return drawn


def same_return(drawn: list[Case], clones: list[Policy], wanted: float) -> float:
    """The weight of uniform noise at which it returns ``wanted`` in the mean, by bisection; 0 if cloning returns less."""
    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        noisy = [expected_return(mdp, uniform_noise(c, middle)) for (mdp, *_), c in zip(drawn, clones, strict=True)]
        low, high = (middle, high) if np.mean(noisy) >= wanted else (low, middle)
    return low


def quantiles(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Median, mean and the 10 % and 90 % quantiles."""
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9)).tolist()
    return {"low": low, "median": median, "high": high, "mean": float(np.mean(values))}


def row(size: int, number: int, rng: np.random.Generator) -> dict[str, Any]:
    """One number of demonstrations: every method's coverage, and loss of return as a share of the demonstrator's."""
    drawn, (lam, alpha) = cases(size, number, rng), theorem_constants(ACTIONS, HORIZON, size)
    clones = [behavioural_cloning(counts) for *_, counts in drawn]
    mixed = [postbc_mixture(counts, lam, alpha) for *_, counts in drawn]
    wanted = float(np.mean([expected_return(mdp, policy) for (mdp, *_), policy in zip(drawn, mixed, strict=True)]))
    weight = same_return(drawn, clones, wanted)
    policies = {
        "bc": clones,
        "uniform": [uniform_noise(c, alpha) for c in clones],
        "matched": [uniform_noise(c, weight) for c in clones],
        "postbc": mixed,
    }
    log = 64 * math.log(STATES * HORIZON / DELTA)
    found: dict[str, Any] = {"demonstrations": size, "lambda": lam, "alpha": alpha, "matched alpha": weight}
    found["lemma 1"] = alpha * min(1 / log, 1 / (2 * lam))
    best = np.array([expected_return(mdp, demonstrator) for mdp, demonstrator, _ in drawn])
    for name, all_of in policies.items():
        pairs = list(zip(drawn, all_of, strict=True))
        covered = [coverage(policy, case[1]) for case, policy in pairs]
        likely = [coverage(policy, case[1], LIKELY) for case, policy in pairs]
        loss = 1 - np.array([expected_return(case[0], policy) for case, policy in pairs]) / best
        found[name] = {"coverage": quantiles(covered), "likely": quantiles(likely), "loss": quantiles(loss)}
        found[name]["no coverage"] = [float(np.mean(np.equal(each, 0))) for each in (covered, likely)]
    return found


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Two panels, medians with the central 80 % shaded, as a PNG."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for axis, measure in zip(axes, ("coverage", "loss"), strict=True):
        scale = 100 if measure == "loss" else 1
        for name, (label, color, style) in METHODS.items():
            low, median, high = (
                scale * np.array([r[name][measure][q] for r in rows]) for q in ("low", "median", "high")
            )
            axis.fill_between(SIZES, low, high, color=color, alpha=0.15, linewidth=0)
            axis.plot(SIZES, median, style, color=color, markersize=4.5, label=label)
        axis.set(xscale="log", xlabel="T, demonstrations")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].plot(SIZES, [r["lemma 1"] for r in rows], color="0.4", linestyle="--", label=f"lemma 1, δ = {DELTA}")
    axes[0].set_yscale("symlog", linthresh=1e-4)
    axes[0].set(ylabel="coverage γ of the demonstrator", ylim=(-2e-5, 1.5), title="more is better")
    axes[1].axhline(0, color="0.4", linewidth=0.8)
    axes[1].set(ylabel="return lost against the demonstrator, %", title="less is better")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})  # the same numbers give the same bytes
    plt.close(figure)


def main() -> None:
    """Measure, draw, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mdps", type=int, default=300, help="for each number of demonstrations")
    number = parser.parse_args().mdps
    rng = np.random.default_rng(0)
    rows = [row(size, number, rng) for size in track(SIZES, "demonstrations", len(SIZES))]
    table = Table("T", "α", "λ", *(f"{label}: γ, loss" for label, *_ in METHODS.values()), header_style="bold")
    for r in rows:
        cells = [f"{r[m]['coverage']['median']:.4f}, {r[m]['loss']['median']:z.1%}" for m in METHODS]
        table.add_row(str(r["demonstrations"]), f"{r['alpha']:.3f}", f"{r['lambda']:.1f}", *cells)
    Console(width=130).print(table)
    draw(rows, FIGURE)
    setting = {"states": STATES, "actions": ACTIONS, "horizon": HORIZON, "concentration": CONCENTRATION}
    setting |= {"temperature": TEMPERATURE, "mdps": number, "delta": DELTA, "likely": LIKELY}
    print(write("tabular", ("numpy",), {"setting": setting, "rows": rows}))  # noqa: T201


if __name__ == "__main__":
    main()
