"""Demonstrations as transitions of chunks, for finetuners whose choice is a chunk of actions."""

import torch
from torch import Tensor

from postbc.demos.frames import Frames
from postbc.errors import ConfigError
from postbc.finetune.learner import Learner, OffPolicy
from postbc.finetune.replay import Batch

PART = 1024  # frames at once


def transitions(frames: Frames, index: Tensor, horizon: int, discount: float, cost: float) -> Batch:
    """The chunk from each frame of ``index`` on, as if it had been played: up to success or the recording's end.

    Where a recording ends without success nobody knows what came next: such transitions have a reward of NaN.
    """
    assert frames.reward is not None and frames.success is not None  # noqa: S101 - the caller asks
    steps = index[:, None] + torch.arange(horizon)
    last = frames.last[index][:, None]
    inside = torch.minimum(steps, last)
    before = (
        torch.cat([torch.zeros(len(index), 1, dtype=torch.bool), frames.success[inside][:, :-1]], 1).cummax(1).values
    )
    executed = (steps <= last) & ~before
    count = executed.sum(1)
    power = discount ** torch.arange(horizon).float()
    reward = ((frames.reward[inside] - cost) * executed * power).sum(1)
    terminated = (frames.success[inside] & executed).any(1)
    unknown = (index + count > frames.last[index]) & ~terminated
    following = torch.minimum(index + count, frames.last[index])
    return Batch(
        obs=frames.rows(index),
        choice=frames.chunks(index, horizon),
        reward=torch.where(unknown, torch.full_like(reward, torch.nan), reward),
        bootstrap=torch.where(terminated, torch.zeros_like(reward), discount ** count.float()),
        following=frames.rows(following),
    )


def show(learner: Learner, frames: Frames) -> int:
    """Put the demonstrations into the learner's replay; returns how many chunks.

    Raises ConfigError where its choice is not a chunk, or the recordings hold no rewards.
    """
    algorithm = learner.config.algorithm
    if not isinstance(learner, OffPolicy) or algorithm not in ("dsrl_na", "best_of_n"):
        source = "its own rollouts alone" if algorithm == "dppo" else "latent noise, which demonstrations do not have"
        raise ConfigError(
            f"{algorithm} learns from {source}; finetune_sim.demonstrations goes with dsrl_na and best_of_n."
        )
    if frames.reward is None or not bool(frames.success.any() if frames.success is not None else False):
        raise ConfigError("the recordings hold no success to learn from: set finetune_sim.demonstrations to false.")
    shown = 0
    for index in torch.arange(len(frames)).split(PART):
        horizon = learner.model.shape.chunk
        batch = transitions(frames, index, horizon, learner.config.discount, learner.cost)
        known = ~batch.reward.isnan()
        kept = Batch(**{name: value[known] for name, value in vars(batch).items()})
        learner.take(kept, learner.model.normalise(kept.choice))
        shown += int(known.sum())
    return shown
