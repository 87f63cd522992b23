"""The loop that every finetuner runs in: play chunks, store them, learn, look, checkpoint; simulator and robot alike."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from postbc.config import FinetuneConfig
from postbc.errors import TrainingDivergedError
from postbc.finetune.learner import Learner
from postbc.policies.policy import Policy
from postbc.progress import Stopwatch, Track, log
from postbc.sims.vector import ChunkVector, Transition
from postbc.storage.checkpoint import Checkpoints, Nested
from postbc.training import Metrics

Row = dict[str, Any]
Evaluate = Callable[[Policy, ChunkVector], Row]
WINDOW = 20  # episodes over which training success is averaged
EXPLODED = 10.0  # times the largest value that the discount allows
HOTTEST = 1e3  # temperature


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
    episodes: int = 0
    starts_used: int = 0
    rows: list[Row] = field(default_factory=list)
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    best: float = -1.0  # success of the best policy looked at, and after how many steps it was
    best_at: int = 0

    def state(self) -> dict[str, Any]:
        """JSON form."""
        return {**vars(self), "recent": list(self.recent)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Progress":
        """Inverse of :meth:`state`."""
        return cls(**{**state, "recent": deque(state["recent"], maxlen=WINDOW)})


def finetune(learner: Learner, arena: Arena) -> list[Row]:
    """Spend the budget of ``learner.config`` in the arena; goes on from the checkpoint when there is one.

    Returns the learning curve: a row for the start, for every look and for the end, counted in control steps. Where
    policies were looked at, ``learner`` ends as the best of them (the later of equals), else as the last. Raises
    TrainingDivergedError when a loss is no longer finite or values explode; the last checkpoint is kept.
    """
    config, progress, best = learner.config, Progress(), Nested()
    saved = arena.checkpoints.load()
    if saved is not None:
        learner.restore(saved["learner"])
        progress, best = Progress.of(saved["progress"]), saved.get("best", {})
    with Track("finetune", config.env_steps) as bar:
        bar.advance(progress.env_steps)
        watch = Stopwatch()
        best = _play(learner, arena, progress, best, (bar, watch))
    log.info("finetune: %s", watch)
    if best:
        learner.load(best)
        log.info("kept: the policy after %d steps, success %.2f", progress.best_at, progress.best)
    return progress.rows


def _play(learner: Learner, arena: Arena, progress: Progress, best: Nested, shown: tuple[Track, Stopwatch]) -> Nested:
    """Spend the budget; returns the weights of the best policy looked at."""
    bar, watch = shown
    config, vector, started = learner.config, arena.vector, time.monotonic()
    metrics: Metrics = {}
    if progress.env_steps == 0:
        best = _look(learner, arena, progress, metrics, best)
    obs, base = vector.reset(arena.starts[progress.starts_used :]), progress.starts_used
    while progress.env_steps < config.env_steps and not _reached(config, progress):
        before = progress.env_steps
        tensor = torch.from_numpy(obs)
        with watch("sampling"):
            choice, chunk = learner.act(tensor, before < config.initial_steps)
        with watch("stepping"):
            step = vector.step(chunk.numpy())
        learner.store(tensor, choice, step)
        _count(progress, step)
        if progress.env_steps > config.initial_steps:
            with watch("learning"):
                metrics = learner.learn(vector.n) or metrics
            _check(metrics, config, progress)
        obs, progress.starts_used = step.obs, base + vector.used
        if crossed(before, progress.env_steps, config.evaluate_every) or progress.env_steps >= config.env_steps:
            with watch("looking"):
                best = _look(learner, arena, progress, metrics, best)
            if arena.evaluate is not None and progress.env_steps < config.env_steps:
                # Looking used the environments: the episodes in them are over.
                obs, base = vector.reset(arena.starts[progress.starts_used :]), progress.starts_used
        if crossed(before, progress.env_steps, config.checkpoint_every):
            arena.checkpoints.save({"learner": learner.state(), "progress": progress.state(), "best": best})
        rate = progress.env_steps / max(time.monotonic() - started, 1e-9)
        bar.advance(progress.env_steps - before, f"success {_mean(progress.recent):.2f} {rate:.0f} steps/s")
    return best


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]; never for 0."""
    return every > 0 and before // every != after // every


def _count(progress: Progress, step: Transition) -> None:
    over = step.terminated | step.truncated
    progress.env_steps += int(step.steps.sum())
    progress.episodes += int(over.sum())
    progress.recent.extend(bool(success) for success in step.success[over])


def _check(metrics: Metrics, config: FinetuneConfig, progress: Progress) -> None:
    """Raise TrainingDivergedError, with what to try, for numbers that cannot come right again."""
    after = f"finetuning diverged after {progress.env_steps} steps"
    if not all(map(math.isfinite, metrics.values())):
        raise TrainingDivergedError(f"{after}: {metrics}. Lower learning_rate or updates_per_chunk.")
    largest = EXPLODED / (1 - config.discount) if config.discount < 1 else math.inf
    if abs(metrics.get("q", 0.0)) > largest:
        raise TrainingDivergedError(
            f"{after}: the mean value is {metrics['q']:.0f}, where {largest / EXPLODED:.0f} is the most that the discount "
            "allows. Lower learning_rate, tau or updates_per_chunk."
        )
    if metrics.get("temperature", 0.0) > HOTTEST:
        raise TrainingDivergedError(
            f"{after}: the entropy has collapsed (temperature {metrics['temperature']:.0f}). Lower target_entropy or "
            "learning_rate, or raise noise_bound."
        )


def _reached(config: FinetuneConfig, progress: Progress) -> bool:
    """Whether the success that was asked for has been seen."""
    return config.stop_at is not None and progress.best >= config.stop_at


def _mean(values: deque[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def _look(learner: Learner, arena: Arena, progress: Progress, metrics: Metrics, best: Nested) -> Nested:
    """Add a row to the learning curve; returns the weights of the best policy so far."""
    row: Row = {
        "env_steps": progress.env_steps,
        "training_episodes": progress.episodes,
        "training_success": _mean(progress.recent),
    }
    if arena.evaluate is not None:
        row |= arena.evaluate(learner.policy(), arena.vector)
        if row["success"] >= progress.best:
            progress.best, progress.best_at = row["success"], progress.env_steps
            best = {name: {k: v.clone() for k, v in own.items()} for name, own in learner.weights().items()}
    progress.rows.append(row | metrics)
    return best
