"""A finetuned policy as an artifact: the policy folder, its critics, and what it cost."""

from pathlib import Path

from postbc.finetune.critics import load_critics, save_critics
from postbc.finetune.dsrl import Dsrl
from postbc.policies.folder import load_policy, save_policy
from postbc.storage.atomic import atomic_folder, read_json, write_json

POLICY, CRITICS, RUN = "policy", "critics", "run.json"


def save_finetuned(learner: Dsrl, env_steps: int, folder: Path) -> None:
    """Write policy, critics and the control steps of reinforcement learning they took in all, whole or not at all."""
    with atomic_folder(folder) as building:
        save_policy(learner.policy(), building / POLICY)
        save_critics(learner.critics, building / CRITICS)
        write_json(building / RUN, {"env_steps": env_steps})


def env_steps(folder: Path) -> int:
    """Control steps of reinforcement learning behind a finetuned folder."""
    return int(read_json(folder / RUN)["env_steps"])


def continue_from(learner: Dsrl, folder: Path) -> None:
    """Give ``learner`` the actor and the critics of a finetuned folder; it plays its actor from the first step."""
    policy = load_policy(folder / POLICY)
    assert policy.actor is not None, "a finetuned policy is steered"  # noqa: S101 - by construction of the folder
    learner.continue_from(policy.actor, load_critics(folder / CRITICS))
