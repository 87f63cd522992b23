"""What a sampler's spacing does to a trained policy: the same weights sampled in 8 even, 8 quadratic and 100 steps.

The protocol: sets, seeds, starts and training of the coverage study, replicates 0 to 2; 8 tries. *Spread* is the standard
deviation of sampled chunks at the states trained on (root mean square, half ranges); of the noise on the targets a policy
shows what it has beyond BC's, √(spread² − BC's²). A cell is appended to benchmarks/results/spacing.jsonl when it is done,
and one that stands there is not run again.
"""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch

from benchmarks.cells import Cells
from benchmarks.coverage import LEAST, STARTS, VARIANTS, Cell, played_in, trained, training
from benchmarks.pages import DOCS, Part
from benchmarks.record import FOLDER, commit
from postbc.demos.frames import Frames
from postbc.evaluation.coverage import cover, summary
from postbc.policies.generative import EVEN, QUADRATIC
from postbc.policies.policy import Policy
from postbc.sims.starts import EVALUATION, seeds

RESULTS, PART = Cells(FOLDER / "spacing.jsonl"), Part(DOCS / "postbc.md", "spacing")
SETS = (("lift", 3), ("metaworld/drawer-open", 3))
COMPARED = ("bc", "sigma matched", "postbc")
REPLICATES, TRIES, SAMPLES, STATES = 3, 8, 32, 256
Rows = list[dict[str, Any]]


def cells() -> Iterator[Cell]:
    """Replicate by replicate, so that a run which was stopped early is balanced."""
    for replicate, (task, size), variant in product(range(REPLICATES), SETS, COMPARED):
        yield Cell(task, size, replicate, variant)


def sampled_in(policy: Policy, spacing: str, steps: int) -> Policy:
    """The same weights behind another sampler."""
    model = policy.model
    other = type(model)(replace(model.shape, spacing=spacing, inference_steps=steps))
    other.load_state_dict(model.state_dict())
    return Policy(other.eval(), policy.latent)


@torch.no_grad()
def spread(policy: Policy, frames: Frames) -> float:
    """Of sampled chunks at up to STATES of ``frames``."""
    index = torch.linspace(0, len(frames) - 1, min(STATES, len(frames))).long()
    features = policy.model.observer(frames.rows(index))
    noise = torch.randn(SAMPLES, len(index), policy.latent_dim, generator=torch.Generator().manual_seed(0))
    drawn = torch.stack([policy.model.normalise(policy.decode(features, w)) for w in noise])
    return float(drawn.var(0).mean().sqrt())


def run(cell: Cell) -> dict[str, Any]:
    """Train once, sample and play in every spacing."""
    method, settings, _ = VARIANTS[cell.variant]
    group = replace(cell, variant="")
    policy, noise = trained(group, (method, tuple(settings.items())), None)
    frames, starts = training(group, None), seeds(EVALUATION, 1 + cell.replicate, STARTS)
    row: dict[str, Any] = {"100": {"spread": spread(sampled_in(policy, QUADRATIC, 100), frames)}}
    for spacing in (EVEN, QUADRATIC):
        one = sampled_in(policy, spacing, policy.model.shape.inference_steps)
        covered = cover(one, played_in(cell.task), starts, TRIES, f"{cell.variant} {spacing}", LEAST)
        row[spacing] = {**summary(covered), "spread": spread(one, frames)}
    return {"cell": vars(cell), **row, "noise": noise, "tries": TRIES, "commit": commit()}


def beyond(rows: Rows, clones: Rows, sampler: str) -> str:
    """Mean over replicates of √(spread² − BC's²)."""
    squares = [
        row[sampler]["spread"] ** 2 - clone[sampler]["spread"] ** 2 for row, clone in zip(rows, clones, strict=True)
    ]
    return f"{np.mean(np.sqrt(np.maximum(squares, 0))):.2f}"


def percent(rows: Rows, key: str) -> str:
    """Means over replicates, even and quadratic."""
    return ", ".join(f"{100 * np.mean([row[spacing][key] for row in rows]):.0f}" for spacing in (EVEN, QUADRATIC))


def table() -> str:
    """Means over the replicates that are whole, as Markdown."""
    found = {Cell(**row["cell"]): row for row in RESULTS.rows()}
    head = f"one try: even, quadratic | w = 0 | solved in {TRIES} |"
    lines = [f"| set | method | noise beyond BC's in 8 even, 8 quadratic, 100 steps | {head}", "|---" * 6 + "|"]
    for task, size in SETS:
        whole = [n for n in range(REPLICATES) if all(Cell(task, size, n, variant) in found for variant in COMPARED)]
        for variant in COMPARED if whole else ():
            rows, clones = ([found[Cell(task, size, n, v)] for n in whole] for v in (variant, "bc"))
            noise = ", ".join(beyond(rows, clones, sampler) for sampler in (EVEN, QUADRATIC, "100"))
            played = " | ".join(percent(rows, key) for key in ("success", "zero", "value"))
            lines.append(f"| {task.rpartition('/')[2]}, {size} ({len(whole)}) | {variant} | {noise} | {played} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run what has not been run; write the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)  # a second process may share the machine
    RESULTS.fill(cells(), run, TRIES)
    PART.write(table())


if __name__ == "__main__":
    main()
