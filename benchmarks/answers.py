"""The coverage study's cells and answers, from benchmarks/results/coverage.jsonl, as Markdown for docs/coverage.md."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.coverage import PILOT, VARIANTS, done

RESAMPLES, LEAST = 10_000, 3
Rows = dict[str, dict]  # by variant, of one replicate
Group = tuple[str, int]  # task, size


def rate(variant: str, key: str, other: str = "bc") -> Callable[[Rows], float | None]:
    """Points by which ``key`` of a variant exceeds another variant's."""
    return lambda rows: 100 * (rows[variant][key] - rows[other][key])


def graded(rows: Rows) -> bool:
    """Whether the reward is more than success."""
    return any(row["mean_max_reward"] != row["success"] for row in rows.values())


def reward(variant: str, key: str, other: str = "bc") -> Callable[[Rows], float | None]:
    """:func:`rate` of a reward that is more than success; None elsewhere."""
    return lambda rows: rate(variant, key, other)(rows) if graded(rows) else None


def revived(variant: str, other: str) -> Callable[[Rows], float | None]:
    """Points, of the starts that BC never solved, by which a variant solves more than another; None where BC has none."""

    def measure(rows: Rows) -> float | None:
        dead, ours, theirs = (np.array(rows[v]["first_solved"]) == 0 for v in ("bc", variant, other))
        return 100 * float(theirs[dead].mean() - ours[dead].mean()) if dead.any() else None

    return measure


@dataclass(frozen=True)
class Question:
    """A difference that is answered by its sign."""

    text: str
    measure: Callable[[Rows], float | None]


QUESTIONS = [
    Question("PostBC against BC, one try", rate("postbc", "success")),
    Question("PostBC against BC, w = 0", rate("postbc", "zero")),
    Question("PostBC with α auto against BC, one try", rate("postbc auto", "success")),
    Question("PostBC with α auto against BC, w = 0", rate("postbc auto", "zero")),
    Question("PostBC against BC, starts ever solved", rate("postbc", "value", "bc")),
    Question("PostBC against matched σ-BC, starts ever solved", rate("postbc", "value", "sigma matched")),
    Question("PostBC against matched σ-BC, of starts dead under BC", revived("postbc", "sigma matched")),
    Question(
        "PostBC with α auto against α = 1, one try",
        rate("postbc auto", "success", "postbc"),
    ),
    Question("PostBC with α auto against α = 1, starts ever solved", rate("postbc auto", "value", "postbc")),
    Question("PostBC against BC, reward of one try", reward("postbc", "mean_max_reward")),
    Question("PostBC against BC, reward at w = 0", reward("postbc", "zero_reward")),
    Question("PostBC against BC, best reward of 4", reward("postbc", "best_reward")),
    Question("PostBC against matched σ-BC, best reward of 4", reward("postbc", "best_reward", "sigma matched")),
    Question("mixture against BC, one try", rate("mixture", "success")),
    Question("mixture against BC, w = 0", rate("mixture", "zero")),
    Question("mixture against PostBC, starts ever solved", rate("mixture", "value", "postbc")),
    Question("conditional at 0 against BC, one try", rate("conditional at 0", "success")),
    Question("conditional at 0 against BC, w = 0", rate("conditional at 0", "zero")),
    Question("conditional at 1 against PostBC, starts ever solved", rate("conditional at 1", "value", "postbc")),
    Question("mixture against BC, reward of one try", reward("mixture", "mean_max_reward")),
    Question("mixture against PostBC, best reward of 4", reward("mixture", "best_reward", "postbc")),
    Question("conditional at 0 against BC, reward of one try", reward("conditional at 0", "mean_max_reward")),
    Question("conditional at 1 against PostBC, best reward of 4", reward("conditional at 1", "best_reward", "postbc")),
]


def complete() -> dict[Group, list[Rows]]:
    """By task and size, the replicates of which every variant was run."""
    found: dict[Group, dict[int, Rows]] = defaultdict(lambda: defaultdict(dict))
    for cell, row in done().items():
        if cell.replicate != PILOT:
            found[cell.task, cell.size][cell.replicate][cell.variant] = row
    whole = {group: [r for r in by.values() if r.keys() >= VARIANTS.keys()] for group, by in sorted(found.items())}
    return {group: rows for group, rows in whole.items() if rows}


def interval(groups: list[np.ndarray]) -> tuple[float, float, float]:
    """Mean over groups of their means, and its 95 % bootstrap interval over replicates."""
    rng = np.random.default_rng(0)
    drawn = [rng.choice(values, (RESAMPLES, len(values))).mean(1) for values in groups]
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975))
    return float(np.mean([values.mean() for values in groups])), float(low), float(high)


def verdict(values: list[np.ndarray]) -> str:
    """Difference, interval and what follows from it; a set with fewer than LEAST replicates decides nothing."""
    if min(map(len, values)) < LEAST:
        return "too few"
    value, low, high = interval(values)
    word = "more" if low > 0 else "less" if high < 0 else "undecided"
    return f"{value:+.0f} ({low:+.0f} to {high:+.0f}) {word}".replace("-", "−")


def answer(question: Question, groups: list[list[Rows]]) -> str:
    """The verdict on one question over groups of replicates."""
    measured = [[v for rows in group if (v := question.measure(rows)) is not None] for group in groups]
    values = [np.array(one) for one in measured if one]
    return verdict(values) if values else ""


def cell(replicates: list[Rows], variant: str) -> str:
    """Means over replicates in percent: one try / w = 0 / never solved, and the energy distance.

    Where the reward is more than success, the reward of one try / at w = 0 / best of 4 instead.
    """
    rows = [rows[variant] for rows in replicates]
    kind = ("mean_max_reward", "zero_reward", "best_reward") if graded(replicates[0]) else ("success", "zero", "value")
    one, zero, many = (100 * np.mean([row[key] for row in rows]) for key in kind)
    last = many if graded(replicates[0]) else 100 - many
    return f"{one:.0f} / {zero:.0f} / {last:.0f} ({np.mean([row['energy'] for row in rows]):.2f})"


def main() -> None:
    """Print the table of cells and the table of answers."""
    groups = complete()
    names = [f"{task}, {size}" for task, size in groups]
    print(
        f"Replicates: {', '.join(f'{name}: {len(rows)}' for name, rows in zip(names, groups.values(), strict=True))}\n"
    )
    print("| variant | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for variant in VARIANTS:
        cells = [cell(rows, variant) for rows in groups.values()]
        print(f"| {variant} | " + " | ".join(cells) + " |")
    print("\n| difference, in points | " + " | ".join(names) + " | all |\n|" + "---|" * (len(names) + 2))
    for question in QUESTIONS:
        cells = [answer(question, part) for part in (*([rows] for rows in groups.values()), list(groups.values()))]
        if any(cells):
            print(f"| {question.text} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
