"""A finetuned policy as an artifact: the policy folder, its critics, and what it cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from postbc.errors import ConfigError, IntegrityError
from postbc.finetune.critics import save_critics
from postbc.finetune.learner import Learner
from postbc.policies.folder import load_policy, save_policy
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.checkpoint import flatten, unflatten
from postbc.storage.manifest import check_manifest, write_manifest
from postbc.storage.tensors import load_tensors

POLICY, CRITICS, RUN, LEARNED = "policy", "critics", "run.json", "learned"

WEIGHTS, REPLAY = "learned.safetensors", "replay"


def save_finetuned(learner: Learner, env_steps: int, folder: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write policy, critics, all that was learned, the control steps it took in all and ``facts``, whole or not at all."""
    with atomic_folder(folder) as building:
        save_policy(learner.policy(), building / POLICY)
        if learner.critics is not None:
            save_critics(learner.critics, building / CRITICS)
        (building / LEARNED).mkdir()
        save_file(flatten(learner.weights())[0], building / LEARNED / WEIGHTS)
        if played := learner.experience():
            tensors, counts = flatten(played)
            save_file(tensors, building / LEARNED / f"{REPLAY}.safetensors")
            write_json(building / LEARNED / f"{REPLAY}.json", counts)
        write_manifest(building / LEARNED)
        write_json(building / RUN, {"algorithm": learner.config.algorithm, "env_steps": env_steps, **(facts or {})})


def env_steps(folder: Path) -> int:
    """Control steps of reinforcement learning behind a finetuned folder."""
    return int(read_json(folder / RUN)["env_steps"])


def continue_from(learner: Learner, folder: Path, replay: bool = False) -> None:
    """Give ``learner`` what another run has learned, and its ``replay``, from its finetuned folder.

    Raises ConfigError where that run had another algorithm or another form, IntegrityError where the result would not be the
    policy of that folder.
    """
    before = read_json(folder / RUN)["algorithm"]
    if before != learner.config.algorithm:
        raise ConfigError(
            f"{folder} was finetuned by {before}; finetune_robot.finetune.algorithm = {learner.config.algorithm!r} "
            "cannot go on from that."
        )
    check_manifest(folder / LEARNED)
    policy = load_policy(folder / POLICY)
    learner.continue_from(policy, unflatten(load_tensors(folder / LEARNED / WEIGHTS)))
    if replay and (folder / LEARNED / f"{REPLAY}.json").exists():
        counts = read_json(folder / LEARNED / f"{REPLAY}.json")
        learner.recall({**load_tensors(folder / LEARNED / f"{REPLAY}.safetensors"), **counts})
    ours, theirs = learner.policy().state_dict(), policy.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[key], theirs[key]) for key in ours):
        raise IntegrityError(
            f"{folder / LEARNED} does not make the policy in {folder / POLICY}, which is the one that was armed."
        )
