"""Stage finetune_sim: reinforcement learning on simulators running side by side."""

import argparse
from dataclasses import asdict
from pathlib import Path

from postbc.config import Config
from postbc.demos.frames import load_frames
from postbc.evaluation.rollouts import evaluate, summary
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import save_finetuned
from postbc.finetune.demonstrations import show
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.replay import refuse_mixed_rewards
from postbc.policies.folder import load_policy
from postbc.sims import get_task
from postbc.sims.starts import EVALUATION, LOOK_RUN, TRAINING, seeds
from postbc.sims.vector import ChunkEnvs
from postbc.storage.atomic import write_csv
from postbc.storage.checkpoint import Checkpoints, identity
from postbc.storage.manifest import fingerprint
from stages import paths
from stages.running import arguments, log, run


def arena(config: Config, folder: Path, method: str) -> Arena:
    """Simulators with starts of their own, and others to look at policies from."""
    task, settings = config.task, config.finetune_sim
    held_out = seeds(EVALUATION, LOOK_RUN, settings.evaluate_episodes)
    played = get_task(task.env).code  # another environment has other rewards: nothing is gone on with
    run_identity = identity(asdict(task), asdict(settings), config.seed, method, fingerprint(folder), played)
    return Arena(
        vector=ChunkEnvs.of(task).vector(settings.envs, settings.discount),
        starts=seeds(TRAINING, config.seed, settings.env_steps + 2 * settings.envs),  # an episode has a step at least
        checkpoints=Checkpoints(paths.checkpoint("finetune_sim", method), run_identity),
        evaluate=lambda policy, vector: summary(evaluate(policy, vector, held_out, "look")),
        journal=paths.journal("finetune_sim", method),
    )


def main(config: Config, options: argparse.Namespace) -> None:
    refuse_mixed_rewards(config)
    folder = paths.PRETRAINED / options.method
    learner = build_learner(
        load_policy(folder).model, config.finetune_sim, config.seed, get_task(config.task.env).dense
    )
    where = arena(config, folder, options.method)
    if config.finetune_sim.demonstrations:
        log.info(
            "%d chunks of demonstrations in the replay",
            show(learner, load_frames(paths.DATASET, config.task.history, config.task.image_memory)),
        )
    try:
        rows = finetune(learner, where)
    finally:
        where.vector.close()
    save_finetuned(learner, rows[-1]["env_steps"], paths.FINETUNED_SIM / options.method)
    write_csv(paths.PLOTS / f"finetune_sim.{options.method}.csv", rows)
    where.checkpoints.clear()


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=True))
