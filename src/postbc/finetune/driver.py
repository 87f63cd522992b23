"""The loop that every finetuner runs in: play chunks, store them, learn, look, checkpoint; simulator and robot alike."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from postbc.errors import TrainingDivergedError
from postbc.finetune.dsrl import Dsrl, shifted_reward
from postbc.finetune.replay import Batch
from postbc.policies.policy import Policy
from postbc.progress import Stopwatch, Track, log
from postbc.sims.vector import ChunkVector, Transition
from postbc.storage.checkpoint import Checkpoints
from postbc.training import Metrics

Row = dict[str, Any]
Evaluate = Callable[[Policy, ChunkVector], Row]
WINDOW = 20  # episodes over which training success is averaged


@dataclass(frozen=True)
class Arena:
    """Where a finetuner plays and how it is watched.

    ``starts`` are the initial states to train from, in order; one that was interrupted is not played again.
    ``evaluate`` scores a policy on held-out starts in the same environments, or is None where that costs too much.
    """

    vector: ChunkVector
    starts: list[int]
    checkpoints: Checkpoints
    evaluate: Evaluate | None = None


@dataclass
class Progress:
    """Counters of a run, part of its checkpoint."""

    env_steps: int = 0
    updates_owed: float = 0.0
    episodes: int = 0
    starts_used: int = 0
    rows: list[Row] = field(default_factory=list)
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def state(self) -> dict[str, Any]:
        """JSON form."""
        return {**vars(self), "recent": list(self.recent)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Progress":
        """Inverse of :meth:`state`."""
        return cls(**{**state, "recent": deque(state["recent"], maxlen=WINDOW)})


def finetune(learner: Dsrl, arena: Arena) -> list[Row]:
    """Spend the budget of ``learner.config`` in the arena; goes on from the checkpoint when there is one.

    Returns the learning curve: a row for the start, for every look and for the end, counted in control steps. Raises
    TrainingDivergedError when a loss is no longer finite; the last checkpoint is kept.
    """
    config, progress = learner.config, Progress()
    saved = arena.checkpoints.load()
    if saved is not None:
        learner.restore(saved["learner"])
        progress = Progress.of(saved["progress"])
    with Track("finetune", config.env_steps) as bar:
        bar.advance(progress.env_steps)
        watch = Stopwatch()
        _play(learner, arena, progress, (bar, watch))
    log.info("finetune: %s", watch)
    return progress.rows


def _play(learner: Dsrl, arena: Arena, progress: Progress, shown: tuple[Track, Stopwatch]) -> None:
    bar, watch = shown
    config, vector, started = learner.config, arena.vector, time.monotonic()
    metrics: Metrics = {}
    if progress.env_steps == 0:
        _look(learner, arena, progress, metrics)
    obs, base = vector.reset(arena.starts[progress.starts_used :]), progress.starts_used
    while progress.env_steps < config.env_steps:
        before = progress.env_steps
        tensor = torch.from_numpy(obs)
        with watch("sampling"):
            latent, chunk = learner.act(tensor, before < config.initial_steps)
        with watch("stepping"):
            step = vector.step(chunk.numpy())
        learner.store(to_batch(tensor, latent, step, config.discount))
        _count(progress, step)
        if progress.env_steps > config.initial_steps:
            with watch("learning"):
                metrics = _learn(learner, progress, vector.n) or metrics
        obs, progress.starts_used = step.obs, base + vector.used
        if crossed(before, progress.env_steps, config.evaluate_every) or progress.env_steps >= config.env_steps:
            with watch("looking"):
                _look(learner, arena, progress, metrics)
            if arena.evaluate is not None and progress.env_steps < config.env_steps:
                # Looking used the environments: the episodes in them are over.
                obs, base = vector.reset(arena.starts[progress.starts_used :]), progress.starts_used
        if crossed(before, progress.env_steps, config.checkpoint_every):
            arena.checkpoints.save({"learner": learner.state(), "progress": progress.state()})
        rate = progress.env_steps / max(time.monotonic() - started, 1e-9)
        bar.advance(progress.env_steps - before, f"success {_mean(progress.recent):.2f} {rate:.0f} steps/s")


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]; never for 0."""
    return every > 0 and before // every != after // every


def to_batch(obs: Tensor, latent: Tensor, step: Transition, discount: float) -> Batch:
    """Transitions of one vector step; the task's reward is shifted by −1 a step."""
    steps = torch.from_numpy(step.steps).float()
    reward = torch.from_numpy(np.asarray(step.reward)).float()
    alive = 1 - torch.from_numpy(step.terminated).float()
    shifted = shifted_reward(reward, steps, discount)
    return Batch(obs, latent, shifted, alive * discount**steps, torch.from_numpy(step.final))


def _count(progress: Progress, step: Transition) -> None:
    over = step.terminated | step.truncated
    progress.env_steps += int(step.steps.sum())
    progress.episodes += int(over.sum())
    progress.recent.extend(bool(success) for success in step.success[over])


def _learn(learner: Dsrl, progress: Progress, chunks: int) -> Metrics | None:
    progress.updates_owed += learner.config.updates_per_chunk * chunks
    metrics = None
    while progress.updates_owed >= 1:
        progress.updates_owed -= 1
        metrics = learner.update()
    if metrics and not all(map(math.isfinite, metrics.values())):
        raise TrainingDivergedError(
            f"finetuning diverged after {progress.env_steps} steps: {metrics}. Lower learning_rate or updates_per_chunk."
        )
    return metrics


def _mean(values: deque[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def _look(learner: Dsrl, arena: Arena, progress: Progress, metrics: Metrics) -> None:
    """Add a row to the learning curve."""
    row: Row = {
        "env_steps": progress.env_steps,
        "training_episodes": progress.episodes,
        "training_success": _mean(progress.recent),
    }
    if arena.evaluate is not None:
        row |= arena.evaluate(learner.policy(), arena.vector)
    progress.rows.append(row | metrics)
