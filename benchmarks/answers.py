"""The coverage study's cells and answers, from benchmarks/results/coverage.jsonl, into docs/coverage.md and its figure.

A measure is a share of starts in percent, or of PushT, whose policies next to never succeed, the largest reward in percent.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from benchmarks.coverage import FEW_TRIES, PILOT, VARIANTS, done, tries_of
from benchmarks.pages import DOCS, Part

PART, FIGURE = Part(DOCS / "coverage.md", "answers"), DOCS / "figures" / "coverage.png"
LEAST = 3  # replicates that decide
LABELS = {"bc": "BC", "sigma 0.05": "σ-BC 0.05", "sigma matched": "σ-BC matched"}
LABELS |= {"postbc": "PostBC, α = 1", "postbc auto": "PostBC, α auto"}
Rows = dict[str, dict]  # by variant, of one replicate
Replicates = dict[int, Rows]
Group = tuple[str, int]  # task, size
Measured = dict[Group, dict[int, float]]  # a question's differences, by replicate


def by_reward(row: dict) -> bool:
    """Whether the cell's task is judged by reward instead of success."""
    return row["cell"]["task"] in FEW_TRIES


def one_try(row: dict) -> float:
    """Percent in one sampled try."""
    return 100 * row["mean_max_reward" if by_reward(row) else "success"]


def at_zero(row: dict) -> float:
    """Percent at w = 0."""
    return 100 * row["zero_reward" if by_reward(row) else "zero"]


def covered(row: dict) -> float | None:
    """Percent of starts ever solved; the best reward of 4 tries. None for a row of fewer tries than the study's."""
    whole = row["tries"] >= tries_of(row["cell"]["task"])
    return 100 * row["best_reward" if by_reward(row) else "value"] if whole else None


Measure = Callable[[Rows], float | None]


def against(variant: str, other: str, measure: Callable[[dict], float | None]) -> Measure:
    """Points by which a variant exceeds another; None where one of them was not measured."""

    def difference(rows: Rows) -> float | None:
        ours, theirs = measure(rows[variant]), measure(rows[other])
        return None if ours is None or theirs is None else ours - theirs

    return difference


def revived(variant: str, other: str) -> Measure:
    """Points, of the starts that BC never solved, by which a variant solves more than another; None where BC has none."""

    def measure(rows: Rows) -> float | None:
        asked = [rows[v] for v in ("bc", variant, other)]
        if any(covered(row) is None for row in asked):
            return None
        dead, ours, theirs = (np.array(row["first_solved"]) == 0 for row in asked)
        return 100 * float(theirs[dead].mean() - ours[dead].mean()) if dead.any() else None

    return measure


@dataclass(frozen=True)
class Question:
    """A difference that is answered by its sign."""

    text: str
    measure: Measure
    drawn: bool = False  # in the figure
    of_success: bool = False  # not asked where the reward is judged

    def of(self, groups: dict[Group, Replicates]) -> Measured:
        """The difference of every replicate that can tell it."""
        return {
            group: {number: v for number, rows in replicates.items() if (v := self.measure(rows)) is not None}
            for group, replicates in groups.items()
            if not (self.of_success and group[0] in FEW_TRIES)
        }


QUESTIONS = [
    Question("PostBC against BC, one try", against("postbc", "bc", one_try), drawn=True),
    Question("PostBC against BC, w = 0", against("postbc", "bc", at_zero), drawn=True),
    Question("PostBC against BC, starts ever solved", against("postbc", "bc", covered), drawn=True),
    Question(
        "PostBC against matched σ-BC, starts ever solved", against("postbc", "sigma matched", covered), drawn=True
    ),
    Question(
        "PostBC against matched σ-BC, of starts dead under BC", revived("postbc", "sigma matched"), of_success=True
    ),
    Question("PostBC with α auto against BC, one try", against("postbc auto", "bc", one_try)),
    Question("PostBC with α auto against BC, w = 0", against("postbc auto", "bc", at_zero)),
    Question("PostBC with α auto against α = 1, one try", against("postbc auto", "postbc", one_try)),
    Question("PostBC with α auto against α = 1, starts ever solved", against("postbc auto", "postbc", covered)),
    Question("mixture against BC, one try", against("mixture", "bc", one_try), drawn=True),
    Question("mixture against BC, w = 0", against("mixture", "bc", at_zero)),
    Question("mixture against PostBC, starts ever solved", against("mixture", "postbc", covered)),
    Question("conditional at 0 against BC, one try", against("conditional at 0", "bc", one_try), drawn=True),
    Question("conditional at 0 against BC, w = 0", against("conditional at 0", "bc", at_zero)),
    Question("conditional at 1 against PostBC, starts ever solved", against("conditional at 1", "postbc", covered)),
]


def complete() -> dict[Group, Replicates]:
    """By task and size, the replicates of which every variant was run."""
    found: dict[Group, dict[int, Rows]] = defaultdict(lambda: defaultdict(dict))
    for cell, row in done().items():
        if cell.replicate != PILOT:
            found[cell.task, cell.size][cell.replicate][cell.variant] = row
    whole = {
        group: {number: by[number] for number in sorted(by) if by[number].keys() >= VARIANTS.keys()}
        for group, by in sorted(found.items())
    }
    return {group: replicates for group, replicates in whole.items() if replicates}


def by_task(measured: Measured) -> dict[str, np.ndarray]:
    """The differences of each task, one a replicate: the mean over its sizes, which share demonstrations and starts."""
    tasks: dict[str, list[dict[int, float]]] = defaultdict(list)
    for (task, _), values in measured.items():
        tasks[task].append(values)
    shared = {task: set.intersection(*(set(values) for values in sizes)) for task, sizes in tasks.items()}
    return {
        task: np.array([np.mean([values[n] for values in sizes]) for n in sorted(shared[task])])
        for task, sizes in tasks.items()
    }


def interval(groups: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Mean over groups of their means, and its 95 % interval by Student's t (with Welch's degrees of freedom)."""
    variances = np.array([values.var(ddof=1) / len(values) for values in groups])
    freedom = np.array([len(values) - 1 for values in groups])
    value, total = float(np.mean([values.mean() for values in groups])), variances.sum()
    if total == 0:
        return value, value, value
    half = stats.t.ppf(0.975, total**2 / (variances**2 / freedom).sum()) * np.sqrt(total) / len(groups)
    return value, float(value - half), float(value + half)


def verdict(values: Sequence[np.ndarray]) -> str:
    """Difference, interval and what follows from it; a group with fewer than LEAST values decides nothing."""
    if min(map(len, values)) < LEAST:
        return "too few"
    value, low, high = interval(values)
    word = "more" if low > 0 else "less" if high < 0 else "undecided"
    if low == high:  # values that happen to be the same say nothing of how far others would be
        word = "undecided"
    return f"{value:+.0f} ({low:+.0f} to {high:+.0f}) {word}".replace("-", "−")


def answer(question: Question, groups: dict[Group, Replicates]) -> str:
    """The verdict on one question over groups of replicates."""
    values = list(by_task(question.of(groups)).values())
    return verdict(values) if values else ""


def cell(replicates: Replicates, variant: str) -> str:
    """Means over replicates in percent: one try / w = 0 / never solved, or best of 4; and the energy distance."""
    rows = [rows[variant] for rows in replicates.values()]
    one, zero, energy = (np.mean([of(row) for row in rows]) for of in (one_try, at_zero, lambda row: row["energy"]))
    known = [found for row in rows if (found := covered(row)) is not None]
    many = np.mean(known) if len(known) == len(rows) else None
    last = "–" if many is None else f"{many if by_reward(rows[0]) else 100 - many:.0f}"
    return f"{one:.0f} / {zero:.0f} / {last} ({energy:.2f})"


def short(task: str) -> str:
    """A task's name without its benchmark's."""
    return task.rpartition("/")[2]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(line) + " |" for line in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def answers(columns: dict[str, dict[Group, Replicates]]) -> str:
    """Every question over every column's groups."""
    rows = [[question.text, *(answer(question, groups) for groups in columns.values())] for question in QUESTIONS]
    return table(["difference, in points", *columns], [row for row in rows if any(row[1:])])


def mixed(groups: dict[Group, Replicates]) -> str:
    """A line on replicates whose variants were trained by different commits; empty where there is none."""
    found = [
        f"{short(task)} {size}, replicate {number}"
        for (task, size), replicates in groups.items()
        for number, rows in replicates.items()
        if len({row.get("commit") for row in rows.values()}) > 1
    ]
    return f"Of these the variants are of more than one commit: {'; '.join(found)}.\n" if found else ""


def page(groups: dict[Group, Replicates]) -> str:
    """The tables: all cells, the answers by task and over all, the answers by set."""
    names = {group: f"{short(group[0])}, {group[1]}" for group in groups}
    heads = [f"{names[group]} ({len(replicates)})" for group, replicates in groups.items()]
    cells = [[LABELS.get(v, v), *(cell(replicates, v) for replicates in groups.values())] for v in VARIANTS]
    tasks: dict[str, dict[Group, Replicates]] = defaultdict(dict)
    for group, replicates in groups.items():
        tasks[short(group[0])][group] = replicates
    sets = {names[group]: {group: replicates} for group, replicates in groups.items()}
    parts = [table(["", *heads], cells), mixed(groups), answers({**tasks, "all": groups}), answers(sets)]
    return "\n".join(filter(None, parts))


def panel(axis: Axes, question: Question, groups: dict[Group, Replicates]) -> None:
    """One question: every replicate a dot, means and intervals of every set that has enough of them, and of all."""
    measured = question.of(groups)
    for y, group in enumerate(groups):
        values = np.array(list(measured.get(group, {}).values()))
        axis.plot(values, np.full(len(values), y), "o", color="0.65", markersize=4)
        if len(values) >= LEAST:
            bar(axis, y, [values], "tab:blue")
    tasks = list(by_task(measured).values())
    if min(map(len, tasks), default=0) >= LEAST:
        bar(axis, len(groups), tasks, "black")
    axis.axvline(0, color="0.4", linewidth=0.8)
    axis.set_title(question.text, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def bar(axis: Axes, y: int, values: list[np.ndarray], color: str) -> None:
    """A mean and its interval."""
    value, low, high = interval(values)
    axis.plot([low, high], [y, y], color=color, linewidth=2)
    axis.plot([value], [y], "D", color=color, markersize=5)


def draw(groups: dict[Group, Replicates], path: Path) -> None:
    """The main questions as a PNG, a panel each."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained", sharey=True, sharex=True)
    for axis, question in zip(axes.flat, (one for one in QUESTIONS if one.drawn), strict=True):
        panel(axis, question, groups)
    names = [f"{short(task)}, {size}" for task, size in groups]
    axes[0][0].set_yticks(range(len(names) + 1), [*names, "all"])
    axes[0][0].set_ylim(len(names) + 0.5, -0.5)
    for axis in axes[-1]:
        axis.set_xlabel("difference, in points")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})  # the same numbers give the same bytes
    plt.close(figure)


def main() -> None:
    """Write both."""
    groups = complete()
    PART.write(page(groups))
    draw(groups, FIGURE)


if __name__ == "__main__":
    main()
