"""Does PostBC cover more, and what does it cost before any finetuning? The protocol of docs/coverage.md, cell by cell.

A cell is (task, size of the demonstration set, replicate, variant). Each is appended to benchmarks/results/coverage.jsonl when
it is done, and one that stands there is not run again: the study goes on where it was stopped.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cells import Cells
from benchmarks.record import FOLDER, commit
from benchmarks.scratch import scratch
from postbc.config import Method, PosteriorConfig, PretrainConfig, TaskConfig
from postbc.demos.episode import Episode
from postbc.demos.frames import Frames, stack_frames
from postbc.demos.readers import find_sources
from postbc.evaluation.coverage import against_demonstrations, cover, summary
from postbc.policies.policy import Policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.calibration import calibrate, hold_out
from postbc.posterior.factors import Factors
from postbc.posterior.models import fit_posterior
from postbc.posterior.targets import Targets, matched_sigma, size_of
from postbc.progress import log
from postbc.sims import get_task
from postbc.sims.demonstrators.collect import Recipe, collect, default_task
from postbc.sims.starts import EVALUATION, seeds
from postbc.sims.stepping import Stepping
from postbc.sims.vector import ChunkEnvs, ChunkVector

RESULTS = Cells(FOLDER / "coverage.jsonl")
WORK = Path(".work/coverage")
STARTS, TRIES, LEAST, REPLICATES, WORKERS = 64, 32, 4, 5, 8
RECENT = 2  # results of each kind that are kept in memory: cells come in order
LADDER: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {  # sizes of demonstration sets, and how the task is played
    "lift": ((2, 3, 5, 10, 20), {"chunk": 4, "max_steps": 120}),
    "metaworld/door-open": ((2, 3, 5, 10, 20), {"chunk": 8, "max_steps": 300}),
    "metaworld/drawer-open": ((2, 3, 5, 10, 20), {"chunk": 8, "max_steps": 300}),
    "pusht": ((20, 50, 100, 176), {"chunk": 8, "max_steps": 300, "history": 2}),
}
OTHERS: dict[str, dict[str, Any]] = {"so101_lift": {"chunk": 8, "max_steps": 240}}  # tasks of other studies, likewise
FEW_TRIES = {"pusht": 8}  # instead of TRIES, where success is next to never and what counts is the reward
WANTED = (0.35, 0.7)  # BC's largest reward in one try, its success but for PushT: for each the nearest size is studied
PILOT = 1000  # replicate on which the sizes are chosen; not one of the study
HELD_OUT = 15  # the last demonstrations of a set's sequence, for energy and spread
COLLECTED, MORE = 40, 65  # the latter for tasks of other studies
POSTERIOR = PosteriorConfig(members=100, hidden=64, steps=1500, folds=3)
PRETRAIN = PretrainConfig(hidden=256, steps=6000, spacing="even")  # what there was when the study began
LONGER = {"pusht": 20_000}  # steps, where demonstrations are many and vary
VARIANTS: dict[
    str, tuple[Method, dict[str, Any], float]
] = {  # method, settings of PRETRAIN, scale at which it is played
    "bc": (Method.BC, {}, 0.0),
    "sigma 0.05": (Method.SIGMA_BC, {"sigma": 0.05}, 0.0),
    "sigma matched": (Method.SIGMA_BC, {"sigma": "matched"}, 0.0),
    "postbc": (Method.POSTBC, {}, 0.0),
    "postbc auto": (Method.POSTBC, {"alpha": "auto"}, 0.0),
    "mixture": (Method.POSTBC_MIXTURE, {}, 0.0),
    "conditional at 0": (Method.POSTBC_CONDITIONAL, {}, 0.0),
    "conditional at 1": (Method.POSTBC_CONDITIONAL, {}, 1.0),
}


@dataclass(frozen=True)
class Cell:
    """One row of the study."""

    task: str
    size: int
    replicate: int
    variant: str


def done() -> dict[Cell, dict[str, Any]]:
    """The cells that have been run."""
    return {Cell(**row["cell"]): row for row in RESULTS.rows()}


def tries_of(task: str) -> int:
    """From every start, at most."""
    return FEW_TRIES.get(task, TRIES)


def setting(task: str) -> TaskConfig:
    """The task as it is studied."""
    return replace(default_task(task), **(LADDER[task][1] if task in LADDER else OTHERS[task]))


@lru_cache(RECENT)
def demonstrations(task: str, replicate: int, recordings: Path | None) -> list[Episode]:
    """The sequence of demonstrations whose beginning a replicate trains on: collected, or recorded and shuffled."""
    if task == "pusht":
        if recordings is None:
            raise SystemExit(
                "pusht needs --pusht PATH: diffusion_policy's pusht_cchi_v7_replay.zarr, a public data set."
            )
        episodes = [episode for source in find_sources(recordings) for episode in source.episodes()]
        return [episodes[i] for i in np.random.default_rng(replicate).permutation(len(episodes))]
    path = WORK / f"{task.replace('/', '-')}.{replicate}.hdf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    collect(Recipe.of(setting(task), None, replicate, 1.0), path, COLLECTED if task in LADDER else MORE, 2)
    return [episode for source in find_sources(path) for episode in source.episodes()]


def frames_of(task: str, episodes: list[Episode]) -> Frames:
    """Frames of ``episodes`` as the policy sees them."""
    known = get_task(task)
    parts = [(*known.observe(e.obs), e.action, None) for e in episodes]
    return stack_frames(parts, known.fps, setting(task).history)


@lru_cache(RECENT)
def training(group: Cell, recordings: Path | None) -> Frames:
    """The demonstrations of a set; a group is a cell without its variant."""
    return frames_of(group.task, demonstrations(group.task, group.replicate, recordings)[: group.size])


@lru_cache(RECENT)
def posterior(group: Cell, recordings: Path | None) -> Factors:
    """The posterior noise of a set."""
    frames, horizon = training(group, recordings), setting(group.task).chunk
    with scratch() as checkpoints:
        model, _ = fit_posterior(frames, horizon, POSTERIOR, group.replicate, checkpoints)
    return Factors.of(model, frames, horizon)


def calibrated(group: Cell, recordings: Path | None) -> float:
    """The α that episodes held out in folds speak for."""
    frames, horizon = training(group, recordings), setting(group.task).chunk
    with scratch() as checkpoints:
        held = hold_out(frames, horizon, POSTERIOR, group.replicate, checkpoints)
    return calibrate(held, group.replicate).alpha


def targets(group: Cell, method: Method, config: PretrainConfig, recordings: Path | None) -> Targets:
    """What a variant imitates."""
    frames, horizon = training(group, recordings), setting(group.task).chunk
    if method is Method.BC:
        return Targets(frames, horizon, method, 0.0)
    factors = posterior(group, recordings)
    alpha = calibrated(group, recordings) if config.alpha == "auto" else None
    size = size_of(method, config, matched_sigma(factors, frames), alpha)
    return Targets(frames, horizon, method, size, factors)


@lru_cache(RECENT)
def trained(group: Cell, variant: tuple[Method, tuple[Any, ...]], recordings: Path | None) -> tuple[Policy, float]:
    """The policy of a variant and the size of its noise; the conditional one serves both of its variants."""
    method, settings = variant
    config = replace(PRETRAIN, **{"steps": LONGER.get(group.task, PRETRAIN.steps), **dict(settings)})
    wanted = targets(group, method, config, recordings)
    with scratch() as checkpoints:
        return pretrain(wanted, config, group.replicate, checkpoints)[0], wanted.size


@lru_cache(1)
def played_in(task: str) -> ChunkVector:
    """The environments of a task, one after the other in this process: studies side by side use the cores better.

    They are kept: eight processes that import MetaWorld for each cell cost as much as playing an easy one.
    """
    return replace(ChunkEnvs.of(setting(task)), stepping=Stepping.SERIAL).vector(WORKERS)


def played(policy: Policy, cell: Cell, tries: int, recordings: Path | None = None) -> dict[str, Any]:
    """What ``policy`` does from the starts, and at the held-out demonstrations, of the cell's replicate."""
    starts = seeds(EVALUATION, 1 + cell.replicate, STARTS)  # of run 0 are the pipeline's own
    covered = cover(policy, played_in(cell.task), starts, tries, cell.variant, LEAST)
    held_out = frames_of(cell.task, demonstrations(cell.task, cell.replicate, recordings)[-HELD_OUT:])
    row = summary(replace(covered, actions=against_demonstrations(policy, held_out)))
    solved = {"first_solved": covered.first_solved.tolist(), "zero_solved": covered.zero.astype(int).tolist()}
    return {**row, **solved, "commit": commit()}


def run(cell: Cell, recordings: Path | None, tries: int | None = None) -> dict[str, Any]:
    """Train and play one cell; ``tries`` where it is not the study's number."""
    tries = tries or tries_of(cell.task)
    method, settings, scale = VARIANTS[cell.variant]
    policy, size = trained(replace(cell, variant=""), (method, tuple(settings.items())), recordings)
    row = played(Policy(policy.model, policy.latent, scale=scale), cell, tries, recordings)
    return {"cell": vars(cell), **row, "noise": size}


def keep(row: dict[str, Any]) -> None:
    """Append a row to the results."""
    RESULTS.keep(row)
    cell = row["cell"]
    log.info(
        "%s: success %.2f, w = 0 %.2f, never %.2f", list(cell.values()), row["success"], row["zero"], 1 - row["value"]
    )


def sizes(task: str, recordings: Path | None) -> list[int]:
    """The two sizes that are studied: where the pilot replicate's BC comes nearest to WANTED, the nearer one first."""
    ladder, known = LADDER[task][0], done()
    for size in ladder:
        cell = Cell(task, size, PILOT, "bc")
        if cell not in known:
            keep(run(cell, recordings, 1))
    known = done()
    reward = {size: known[Cell(task, size, PILOT, "bc")]["mean_max_reward"] for size in ladder}
    low = min(ladder, key=lambda size: abs(reward[size] - WANTED[0]))
    rest = [size for size in ladder if size != low]
    return [low, min(rest, key=lambda size: abs(reward[size] - WANTED[1]))]


def cells(tasks: list[str], replicates: Sequence[int], recordings: Path | None) -> Iterator[Cell]:
    """All cells, replicate by replicate, so that a study which was stopped early is balanced."""
    chosen = {task: sizes(task, recordings) for task in tasks}
    for replicate, task in product(replicates, tasks):
        for size, variant in product(chosen[task], VARIANTS):
            yield Cell(task, size, replicate, variant)


def main() -> None:
    """Run what has not been run."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(LADDER), help="default: all")
    parser.add_argument("--pusht", type=Path, help="recorded human demonstrations of PushT")
    chosen: dict[str, Any] = {
        "default": range(REPLICATES),
        "help": "two processes share a task by its replicates; default: all",
    }
    parser.add_argument("--replicates", type=int, nargs="+", choices=range(REPLICATES), **chosen)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a second process may share the machine
    for cell in cells(options.tasks, options.replicates, options.pusht):
        if RESULTS.lacks(vars(cell), tries_of(cell.task)):
            keep(run(cell, options.pusht))


if __name__ == "__main__":
    main()
