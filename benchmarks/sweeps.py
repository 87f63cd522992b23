"""What training length and α do to a policy: Lift, the coverage study's demonstrations, seeds and starts, one setting changed.

The protocol: replicates 0 to 2 of that study, everything as there but 8 tries instead of 32. Its own rows (6,000 steps; α = 1
and auto) stand in the tables beside these. It goes on where it was stopped.
"""

import argparse
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch

from benchmarks import coverage
from benchmarks.cells import Cells
from benchmarks.coverage import PRETRAIN, VARIANTS, Cell, played, trained, training
from benchmarks.pages import DOCS, Part
from benchmarks.record import FOLDER
from postbc.config import Method

RESULTS = Cells(FOLDER / "sweeps.jsonl")
TASK, SIZES, LONG, REPLICATES, TRIES = "lift", (3, 5), 5, 3, 8
STEPS = (200, 600, 2_000, 20_000)  # of training, with LONG demonstrations
ALPHAS = (0.25, 0.5, 2.0)
STUDIED = ("bc", "postbc", "postbc auto")  # variants of the coverage study
TITLE = "one try | w = 0 | never solved in {tries} | spread | energy |"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Swept:
    """What a row is of."""

    size: int
    replicate: int
    method: str
    steps: int
    alpha: float | str  # bc does not use it


def cells() -> Iterator[Swept]:
    """What is run here, replicate by replicate."""
    for replicate in range(REPLICATES):
        for steps, method in product(STEPS, (Method.BC, Method.POSTBC)):
            yield Swept(LONG, replicate, method.value, steps, 1.0)
        for size, alpha in product(SIZES, ALPHAS):
            yield Swept(size, replicate, Method.POSTBC.value, PRETRAIN.steps, alpha)


def run(cell: Swept) -> dict[str, Any]:
    """Train and play one."""
    group = Cell(TASK, cell.size, cell.replicate, "")  # the same for all, so that they share a posterior
    settings = (("steps", cell.steps), ("alpha", cell.alpha))
    policy, size = trained(group, (Method(cell.method), settings), None)
    frames = len(training(group, None))
    return {
        "cell": vars(cell),
        **played(policy, replace(group, variant=cell.method), TRIES),
        "noise": size,
        "frames": frames,
    }


def known() -> dict[tuple[int, str, int, float | str], Rows]:
    """Rows of all replicates by size, method, steps and α, the coverage study's among them."""
    rows: dict[Any, Rows] = defaultdict(list)
    for row in RESULTS.rows():
        cell = Swept(**row["cell"])
        rows[cell.size, cell.method, cell.steps, cell.alpha].append(row)
    for its, row in coverage.done().items():
        if its.task == TASK and its.size in SIZES and its.replicate < REPLICATES and its.variant in STUDIED:
            method, settings, _ = VARIANTS[its.variant]
            rows[its.size, method.value, PRETRAIN.steps, settings.get("alpha", PRETRAIN.alpha)].append(row)
    return rows


def means(rows: Rows, tries: int) -> str:
    """Of a table's row, what was measured; starts count as solved that were in the first ``tries``."""
    first = np.array([row["first_solved"] for row in rows])
    one, zero, spread, energy = (np.mean([row[key] for row in rows]) for key in ("success", "zero", "spread", "energy"))
    dead = ((first == 0) | (first > tries)).mean()
    return f"{100 * one:.0f} | {100 * zero:.0f} | {100 * dead:.0f} | {spread:.2f} | {energy:.2f} |"


def shared_tries(by: dict[Any, Rows]) -> int:
    """Tries that every row had."""
    return min(TRIES, *(row["tries"] for rows in by.values() for row in rows))


def lengths() -> str:
    """Training length: means over replicates, as Markdown."""
    rows = known()
    tries = shared_tries(rows)
    frames = np.mean([row["frames"] for row in RESULTS.rows() if row["cell"]["size"] == LONG])
    lines = [f"| Lift, {LONG}: steps (passes) | method | {TITLE.format(tries=tries)}", "|---" * 7 + "|"]
    for steps, method in product(sorted((*STEPS, PRETRAIN.steps)), ("bc", "postbc")):
        passes = PRETRAIN.batch * steps / frames
        lines.append(f"| {steps:,} ({passes:,.0f}) | {method} | {means(rows[LONG, method, steps, 1.0], tries)}")
    return "\n".join([*lines, ""])


def alphas() -> str:
    """α: likewise."""
    rows = known()
    tries = shared_tries(rows)
    lines = [f"| set | α | {TITLE.format(tries=tries)}", "|---" * 7 + "|"]
    for size in SIZES:
        lines.append(f"| Lift, {size} | 0 (BC) | {means(rows[size, 'bc', PRETRAIN.steps, 1.0], tries)}")
        auto = rows[size, "postbc", PRETRAIN.steps, "auto"]
        chosen = ", ".join(f"{row['noise']:.2f}" for row in auto)
        for alpha in sorted((*ALPHAS, 1.0)):
            lines.append(f"| Lift, {size} | {alpha:g} | {means(rows[size, 'postbc', PRETRAIN.steps, alpha], tries)}")
        lines.append(f"| Lift, {size} | auto ({chosen}) | {means(auto, tries)}")
    return "\n".join([*lines, ""])


PARTS = {Part(DOCS / "postbc.md", "sweeps", "α"): alphas, Part(DOCS / "postbc.md", "sweeps", "length"): lengths}


def main() -> None:
    """Run what has not been run; write the tables."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)  # a second process may share the machine
    RESULTS.fill(cells(), run, TRIES)
    for part, made in PARTS.items():
        part.write(made())


if __name__ == "__main__":
    main()
