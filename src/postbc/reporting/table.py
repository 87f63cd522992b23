"""The table life × method, once for the page and once for a terminal: the same rows, the same words."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from postbc.reporting.results import Evaluation, life_title, method_title, read_evaluation
from postbc.reporting.words import difference_words, percent, span

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = (
    "Policy",
    "Method",
    "Success",
    "95 % interval",
    "Episodes",
    "Finetuning steps",
    "Mean best reward",
)
COVERAGE_HEADINGS = ("Method", "One try", "w = 0", "Best of all tries", "95 % interval", "Spread", "Energy")


def rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """One row a life and method, under HEADINGS."""
    return [
        (
            life_title(life),
            method_title(method),
            percent(result.success),
            span(result.low, result.high),
            str(result.episodes),
            f"{result.env_steps:,}",
            "–" if result.mean_max_reward is None else f"{result.mean_max_reward:.3f}",
        )
        for life, results in evaluation.results.items()
        for method in evaluation.methods
        if (result := results.get(method)) is not None
    ]


def coverage_rows(coverage: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row a method, under COVERAGE_HEADINGS."""
    return [
        (
            method_title(method),
            percent(row["success"]),
            percent(row["zero"]),
            percent(row["value"]),
            span(row["low"], row["high"]),
            *(f"{row[key]:.3f}" if key in row else "–" for key in ("spread", "energy")),
        )
        for method, row in coverage["methods"].items()
    ]


def coverage_table(coverage: dict[str, Any]) -> "Table":
    """The same for a rich console."""
    from rich.table import Table

    table = Table(title=f"Before any finetuning. {coverage['measure']}", header_style="bold")
    for number, heading in enumerate(COVERAGE_HEADINGS):
        table.add_column(heading, justify="right" if number else "left")
    for row in coverage_rows(coverage):
        table.add_row(*row)
    return table


def difference_rows(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Life, paired difference with its interval, and what it is evidence of."""
    means = {1: "PostBC better", -1: "PostBC worse", 0: "no evidence of a difference"}
    order = [*(k for k in evaluation.results if k in evaluation.differences)]
    order += sorted(evaluation.differences.keys() - set(order))
    found = [(life, evaluation.differences[life]) for life in order]
    return [(life_title(life), difference_words(d), means[d.sign]) for life, d in found]


def terminal_table(root: Path) -> "Table":
    """The results of the run below ``root`` for a rich console; DataError when it has none."""
    from rich.table import Table

    evaluation = read_evaluation(root)
    table = Table(title="Success over held-out episodes", header_style="bold")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number > 1 else "left")
    previous = ""
    for row in rows(evaluation):
        if previous and row[0] != previous:
            table.add_section()
        table.add_row("" if row[0] == previous else row[0], *row[1:])
        previous = row[0]
    table.caption = "\n".join(f"{life}: {words}, {means}" for life, words, means in difference_rows(evaluation))
    return table
