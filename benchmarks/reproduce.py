"""The paper's comparison at a size that two cores do in two hours: pretraining methods under finetuners, paired by seed.

The protocol is docs/reproduce.md. A cell is (setting, seed, method, finetuner); each is appended to
benchmarks/results/reproduce.jsonl when it is done, and one that stands there is not run again. `--part 0/2` and `--part 1/2`
in two processes share the work by seed and setting; `python -m benchmarks.claims` writes tables and answers.
"""

import argparse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.cells import Cells
from benchmarks.coverage import VARIANTS, WORKERS, Cell, setting, trained
from benchmarks.record import FOLDER, commit
from benchmarks.scratch import scratch
from postbc.config import DppoConfig, FinetuneConfig, Method
from postbc.evaluation.coverage import Covered, cover
from postbc.evaluation.rollouts import evaluate, summary
from postbc.finetune.algorithms import build_learner
from postbc.finetune.driver import Arena, finetune
from postbc.policies.policy import Policy
from postbc.progress import log
from postbc.sims import get_task
from postbc.sims.starts import EVALUATION, LOOK_RUN, TRAINING, seeds
from postbc.sims.vector import ChunkEnvs, ChunkVector
from postbc.storage.journal import Row

RESULTS = Cells(FOLDER / "reproduce.jsonl")
SETTINGS = {  # (task, demonstrations); the first leaves many starts unsolved under BC
    "lift, 3": ("lift", 3),
    "door-open, 2": ("metaworld/door-open", 2),
    "pusht, 100": ("pusht", 100),
}
METHODS = {
    "bc": VARIANTS["bc"],
    "sigma 0.1": (Method.SIGMA_BC, {"sigma": 0.1}, 0.0),  # the paper's
    "postbc": VARIANTS["postbc"],
    "conditional": VARIANTS["conditional at 0"],
}
SEEDS, STARTS, LEAST, TRIES = 5, 64, 2, 8
LOOK_EPISODES = 32
COMMON = FinetuneConfig(
    env_steps=10_000, initial_steps=1_500, envs=2, updates_per_chunk=4.0, hidden=128, layers=2, batch=128,
    evaluate_every=2_000, evaluate_episodes=LOOK_EPISODES, checkpoint_every=10**9,
)  # fmt: skip
FINETUNERS = {
    "dsrl": COMMON,
    "best_of_n": replace(COMMON, algorithm="best_of_n", samples=16),
    "dppo": replace(
        COMMON, algorithm="dppo", initial_steps=0, envs=8, learning_rate=1e-4, batch=512,
        dppo=DppoConfig(steps=8, rollout=30, clip=0.1, clip_base=0.01),
    ),
}  # fmt: skip
EVERYWHERE, ONCE = ("dsrl", "best_of_n"), ("lift, 3", "dppo")


@dataclass(frozen=True)
class Trial:
    """One row; the frozen policy's own row has ``finetuner`` frozen."""

    setting: str
    seed: int
    method: str
    finetuner: str


def trials(names: list[str]) -> Iterator[Trial]:
    """Seed by seed, so that a run which was stopped early is balanced; the frozen policy first."""
    for seed, name, method in product(range(SEEDS), names, METHODS):
        for finetuner in ("frozen", *EVERYWHERE, *(ONCE[1:] if name == ONCE[0] else ())):
            yield Trial(name, seed, method, finetuner)


def policy_of(trial: Trial, recordings: Path | None) -> Policy:
    """The pretrained policy: demonstrations, posterior and weights are the seed's, shared by all methods."""
    method, settings, _ = METHODS[trial.method]
    task, size = SETTINGS[trial.setting]
    return trained(Cell(task, size, trial.seed, ""), (method, tuple(settings.items())), recordings)[0]


def frozen(policy: Policy, vector: ChunkVector, starts: list[int]) -> Row:
    """Success of the pretrained policy in one try, at w = 0, and of any of TRIES."""
    covered: Covered = cover(policy, vector, starts, TRIES, "frozen", LEAST)
    found = {"success": covered.rate, "zero": float(covered.zero.mean()), "solved": float(covered.solved.mean())}
    return {**found, "reward": covered.best, "tries": TRIES}


def tuned(policy: Policy, trial: Trial, vector: ChunkVector, starts: list[int]) -> Row:
    """Spend the budget; success of what is kept of it (the best policy looked at), and the looks."""
    config, task = FINETUNERS[trial.finetuner], setting(SETTINGS[trial.setting][0])
    looks, training = seeds(EVALUATION, LOOK_RUN, LOOK_EPISODES), seeds(TRAINING, trial.seed, 2 * config.env_steps)
    learner, played = (
        build_learner(policy.model, config, trial.seed, get_task(task.env).dense),
        ChunkEnvs.of(task).vector(config.envs, config.discount),
    )
    with closing(played), scratch() as checkpoints:
        rows = finetune(
            learner, Arena(played, training, checkpoints, lambda p, envs: summary(evaluate(p, envs, looks, "look")))
        )
    outcomes = evaluate(learner.policy(), vector, starts, "kept")
    curve = {key: [row[key] for row in rows] for key in ("env_steps", "success", "mean_max_reward")}
    reward = float(np.mean([o.best for o in outcomes]))
    success = float(np.mean([o.success for o in outcomes]))
    return {"success": success, "reward": reward, "curve": curve}


def run(trial: Trial, recordings: Path | None) -> Row:
    """One cell."""
    policy, task = policy_of(trial, recordings), setting(SETTINGS[trial.setting][0])
    starts = seeds(EVALUATION, 1 + trial.seed, STARTS)
    vector = ChunkEnvs.of(task).vector(WORKERS)
    try:
        found = frozen(policy, vector, starts) if trial.finetuner == "frozen" else tuned(policy, trial, vector, starts)
    finally:
        vector.close()
    return {"cell": asdict(trial), **found, "commit": commit()}


def main() -> None:
    """Run what has not been run."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--pusht", type=Path, help="recorded human demonstrations of PushT (diffusion_policy's, public)"
    )
    parser.add_argument("--part", default="0/1", help="which sets of demonstrations: i/n for every n-th from the i-th")
    options = parser.parse_args()
    names = [name for name in SETTINGS if options.pusht or not name.startswith("pusht")]
    if not options.pusht:
        log.info("without --pusht PATH (diffusion_policy's pusht_cchi_v7_replay.zarr, public) PushT is left out")
    part, parts = map(int, options.part.split("/"))
    torch.set_num_threads(1)  # two processes share two cores
    sets = list(
        product(range(SEEDS), names)
    )  # whoever has a set of demonstrations keeps it: its policies are trained once
    mine = [trial for trial in trials(names) if sets.index((trial.seed, trial.setting)) % parts == part]
    for number, trial in enumerate(mine, 1):
        if RESULTS.lacks(asdict(trial), TRIES):
            row = run(trial, options.pusht)
            RESULTS.keep(row)
            log.info("%d/%d %s: success %.2f", number, len(mine), list(asdict(trial).values()), row["success"])


if __name__ == "__main__":
    main()
