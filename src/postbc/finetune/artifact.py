"""A finetuned policy as an artifact: the policy folder, its critics, and what it cost."""

from pathlib import Path

from postbc.errors import ConfigError
from postbc.finetune.critics import load_critics, save_critics
from postbc.finetune.learner import Learner
from postbc.policies.folder import load_policy, save_policy
from postbc.storage.atomic import atomic_folder, read_json, write_json

POLICY, CRITICS, RUN = "policy", "critics", "run.json"


def save_finetuned(learner: Learner, env_steps: int, folder: Path) -> None:
    """Write policy, critics and the control steps of reinforcement learning they took in all, whole or not at all."""
    with atomic_folder(folder) as building:
        save_policy(learner.policy(), building / POLICY)
        if learner.critics is not None:
            save_critics(learner.critics, building / CRITICS)
        write_json(building / RUN, {"algorithm": learner.config.algorithm, "env_steps": env_steps})


def env_steps(folder: Path) -> int:
    """Control steps of reinforcement learning behind a finetuned folder."""
    return int(read_json(folder / RUN)["env_steps"])


def continue_from(learner: Learner, folder: Path) -> None:
    """Give ``learner`` what another run has learned, from its finetuned folder; it plays that from the first step.

    Raises ConfigError where that run had another algorithm.
    """
    before = read_json(folder / RUN)["algorithm"]
    if before != learner.config.algorithm:
        raise ConfigError(
            f"{folder} was finetuned by {before}; finetune_robot.finetune.algorithm = {learner.config.algorithm!r} "
            "cannot go on from that."
        )
    critics = load_critics(folder / CRITICS) if (folder / CRITICS).is_dir() else None
    learner.continue_from(load_policy(folder / POLICY), critics)
