"""Tables, answers and the figure of `make reproduce-quick`, from benchmarks/results/reproduce.jsonl, as Markdown."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.answers import verdict
from benchmarks.pages import DOCS, Part
from benchmarks.reproduce import COMMON, EVERYWHERE, FINETUNERS, METHODS, RESULTS, SETTINGS, Trial, trials
from postbc.storage.journal import Row

PART, FIGURE = Part(DOCS / "reproduce.md", "claims"), DOCS / "figures" / "reproduce.png"
GRID = np.linspace(0, COMMON.env_steps, 25)
Runs = dict[tuple[str, str], Row]  # of one seed, by (method, finetuner)
Groups = dict[str, list[Runs]]  # by setting, the seeds
Measure = Callable[[Runs], float]


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper, or a control, and the paired difference that decides it: positive where it holds."""

    text: str
    measure: Measure


def against(other: str, finetuner: str, key: str = "success", method: str = "postbc") -> Measure:
    """Points by which ``method`` exceeds ``other`` under a finetuner."""
    return lambda runs: 100 * (runs[method, finetuner][key] - runs[other, finetuner][key])


def gain(method: str, finetuner: str, key: str) -> Measure:
    """Points that finetuning adds to the frozen policy, in one try (success) or at w = 0 (zero)."""
    return lambda runs: 100 * (runs[method, finetuner]["success"] - runs[method, "frozen"][key])


def steps_to(row: Row, share: float = 0.9) -> float:
    """Control steps after which a look first found ``share`` successes; the budget where none did."""
    curve = zip(row["curve"]["env_steps"], row["curve"]["success"], strict=True)
    return float(next((step for step, value in curve if value >= share), COMMON.env_steps))


def sooner(finetuner: str) -> Measure:
    """By how much of the budget, in percent, PostBC reaches 90 % sooner than BC."""

    def measure(runs: Runs) -> float:
        bc, postbc = (steps_to(runs[method, finetuner]) for method in ("bc", "postbc"))
        return 100 * (bc - postbc) / COMMON.env_steps

    return measure


def claims() -> list[Claim]:
    """What the paper says, and the controls that it takes."""
    found = [
        Claim("before finetuning: PostBC against BC, one try", against("bc", "frozen")),
        Claim("before finetuning: PostBC against BC, w = 0", against("bc", "frozen", "zero")),
        Claim("before finetuning: PostBC against BC, starts ever solved", against("bc", "frozen", "solved")),
        Claim("before finetuning: PostBC against σ-BC, starts ever solved", against("sigma 0.1", "frozen", "solved")),
    ]
    for name in FINETUNERS:
        found += [
            Claim(f"{name}: PostBC against BC", against("bc", name)),
            Claim(f"{name}: PostBC against σ-BC", against("sigma 0.1", name)),
            Claim(f"{name}: conditional against BC", against("bc", name, method="conditional")),
            Claim(f"{name}: PostBC reaches 90 % sooner than BC, % of the budget", sooner(name)),
            *(
                Claim(f"{name}: {label} against its own {place}", gain(method, name, key))
                for method, label in (("bc", "BC"), ("postbc", "PostBC"))
                for key, place in (("success", "one try"), ("zero", "w = 0"))
            ),
        ]
    return found


def whole() -> Groups:
    """Of every setting the seeds of which every method and finetuner was run."""
    by: dict[str, dict[int, Runs]] = defaultdict(lambda: defaultdict(dict))
    for row in RESULTS.rows():
        trial = Trial(**row["cell"])
        by[trial.setting][trial.seed][trial.method, trial.finetuner] = row
    needed = {name: {(t.method, t.finetuner) for t in trials([name])} for name in SETTINGS}
    found = {name: [runs for runs in by[name].values() if runs.keys() >= needed[name]] for name in SETTINGS}
    return {name: seeds for name, seeds in found.items() if seeds}


def table(groups: Groups) -> Iterator[str]:
    """Markdown: means over seeds in percent, the frozen policy beside what finetuning made of it; rewards in brackets."""
    yield "| setting | method | sampled | w = 0 | never solved | " + " | ".join(FINETUNERS) + " |"
    yield "|" + "---|" * (5 + len(FINETUNERS))
    for (name, seeds), method in product(groups.items(), METHODS):
        frozen, cells = [runs[method, "frozen"] for runs in seeds], []
        for key in ("success", "zero"):
            cells.append(f"{100 * np.mean([row[key] for row in frozen]):.0f}")
        cells[0] += f" ({np.mean([row['reward'] for row in frozen]):.2f})"
        cells.append(f"{100 - 100 * np.mean([row['solved'] for row in frozen]):.0f}")
        for tuner in FINETUNERS:
            rows = [runs[method, tuner] for runs in seeds if (method, tuner) in runs]
            success, reward = (np.mean([row[key] for row in rows]) if rows else 0 for key in ("success", "reward"))
            cells.append(f"{100 * success:.0f} ({reward:.2f})" if rows else "")
        yield "| " + " | ".join([f"{name} ({len(seeds)})", method, *cells]) + " |"


def answers(groups: Groups) -> Iterator[str]:
    """Markdown: every claim in every setting and over all, with its interval over seeds."""
    yield "| difference, in points | " + " | ".join(groups) + " | all |"
    yield "|" + "---|" * (len(groups) + 2)
    for claim in claims():
        values = {}
        for name, seeds in groups.items():
            with suppress(KeyError):  # a finetuner that is not run in this setting
                values[name] = np.array([claim.measure(runs) for runs in seeds])
        cells = [verdict([values[name]]) if name in values else "" for name in groups]
        yield f"| {claim.text} | " + " | ".join([*cells, verdict(list(values.values()))]) + " |"


def page(groups: Groups) -> str:
    """The tables."""
    return "\n".join([*table(groups), "", *answers(groups), ""])


def draw(groups: Groups, path: Path) -> None:
    """Success against control steps, one panel a setting and finetuner; means over seeds and their range, w = 0 dashed."""
    from matplotlib import pyplot as plt

    size: dict[str, Any] = {"figsize": (3.4 * len(groups), 5.6), "layout": "constrained"}
    figure, axes = plt.subplots(len(EVERYWHERE), len(groups), squeeze=False, sharey=True, **size)
    for (i, tuner), (j, (name, seeds)) in product(enumerate(EVERYWHERE), enumerate(groups.items())):
        for number, method in enumerate(METHODS):
            looks = [runs[method, tuner]["curve"] for runs in seeds]
            curves = np.array([np.interp(GRID, look["env_steps"], look["success"]) for look in looks])
            color, zero = f"C{number}", np.mean([runs[method, "frozen"]["zero"] for runs in seeds])
            axes[i][j].plot(GRID, curves.mean(0), color=color, label=method)
            axes[i][j].fill_between(GRID, curves.min(0), curves.max(0), color=color, alpha=0.1, linewidth=0)
            axes[i][j].axhline(zero, color=color, linestyle="--", linewidth=0.8)
        axes[i][j].set(title=f"{name}, {tuner}", ylim=(-0.02, 1.02), xlabel="control steps")
        axes[i][0].set_ylabel("success of held-out episodes")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS), frameon=False
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})  # the same numbers give the same bytes
    plt.close(figure)


def main() -> None:
    """Write both."""
    groups = whole()
    if not groups:
        raise SystemExit(f"{RESULTS.path} holds no seed of which every method was run: make reproduce-quick")
    PART.write(page(groups))
    draw(groups, FIGURE)


if __name__ == "__main__":
    main()
