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

from postbc.config import FinetuneConfig
from postbc.errors import ConfigError, TrainingDivergedError
from postbc.finetune.experience import Experience, Record
from postbc.finetune.learner import Learner
from postbc.policies.policy import Policy
from postbc.progress import Stopwatch, Track, log
from postbc.sims.vector import Environments, Transition
from postbc.storage.checkpoint import Checkpoints, Nested
from postbc.storage.journal import Journal
from postbc.training import Metrics

Row = dict[str, Any]
Evaluate = Callable[[Policy, Any], Row]
WINDOW = 20  # episodes over which training success is averaged
SLICE = 100  # gradient steps after which learning without playing shows how far it is
EXPLODED = 10.0  # times the largest value that the discount allows
HOTTEST = 1e3  # temperature


@dataclass(frozen=True)
class Arena:
    """Where a finetuner plays and how it is watched.

    ``starts`` are the initial states to train from, in order. ``evaluate`` scores a policy on held-out starts in the same
    environments, or is None where that costs too much. Where episodes are ``restorable`` a run that was killed goes on in the
    middle of them; otherwise, on a robot, with the next starts, checkpoints are made between episodes, and ``experience`` keeps
    what came after the last one.
    """

    vector: Environments
    starts: list[int]
    checkpoints: Checkpoints
    evaluate: Evaluate | None = None
    restorable: bool = True
    journal: Journal = field(default_factory=Journal)
    experience: Experience = field(default_factory=Experience)
    watch: Stopwatch = field(default_factory=Stopwatch)


@dataclass
class Progress:
    """Counters of a run, part of its checkpoint."""

    env_steps: int = 0
    episodes: int = 0
    base: int = 0  # how many starts had been used when the environments were last reset
    starts_used: int = 0
    metrics: Metrics = field(default_factory=dict)  # of the last gradient step
    rows: list[Row] = field(default_factory=list)
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    best: float = -1.0  # success of the best policy looked at, its mean best reward, after how many steps it was
    best_reward: float = 0.0
    best_at: int = 0
    learned_after: bool = False  # whether `updates_after` have been made

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
    policies were looked at, ``learner`` ends as the best of them by success, then by the mean largest reward (the later
    of equals), else as the last. Raises TrainingDivergedError when a loss is no longer finite or values explode; the last
    checkpoint is kept.
    """
    run = _Run(learner, arena)
    with Track("finetune", learner.config.env_steps) as bar:
        run.play(bar)
    log.info("finetune: %s", run.watch)
    if run.best:
        learner.load(run.best)
        log.info("kept: the policy after %d steps, success %.2f", run.progress.best_at, run.progress.best)
    return run.progress.rows


class _Run:
    """One run, from its start or from its checkpoint; ``best`` are the weights of the best policy looked at."""

    def __init__(self, learner: Learner, arena: Arena) -> None:
        self.learner, self.arena, self.config = learner, arena, learner.config
        self.initial_steps = self.config.initial_steps if learner.explores_first else 0
        self.progress, self.best, self.watch = Progress(), Nested(), arena.watch
        self._last: Transition | None = None
        self._due = False  # whether a checkpoint is
        self.obs: np.ndarray | None
        saved = arena.checkpoints.load()
        if saved is None:
            arena.journal.begin([])
            self._look()
        else:
            learner.restore(saved["learner"])
            self.progress, self.best = Progress.of(saved["progress"]), saved.get("best", {})
            arena.journal.begin(self.progress.rows)
        if saved is not None and arena.restorable:
            self.obs = arena.vector.restore(arena.starts[self.progress.base :], saved["episodes"])
        else:
            self._recover()
            self.obs = None if self._ended() else self._reset()

    def _recover(self) -> None:
        """Learn from what was gone through after the last checkpoint."""
        begun, over = -1, True
        for record in self.arena.experience.since(self.progress.env_steps):
            if record.starts_used != begun and not over:  # the session ended in the middle of an episode
                self.learner.cut()
            begun, over = record.starts_used, bool((record.step.terminated | record.step.truncated).all())
            self._take(record.obs, record.choice, record.step)
            self.progress.starts_used = record.starts_used
            if self.learner.overlaps or over:  # as it was when this was played
                self._learn()

    def _reset(self) -> np.ndarray:
        self.learner.cut()
        self.progress.base = self.progress.starts_used
        return self.arena.vector.reset(self.arena.starts[self.progress.base :])

    def _ended(self) -> bool:
        """Whether the budget is spent, or the success that was asked for has been seen."""
        config, progress = self.config, self.progress
        enough = config.stop_at is not None and progress.best >= config.stop_at
        played = config.episodes is not None and progress.episodes >= config.episodes
        return enough or played or progress.env_steps >= config.env_steps

    def play(self, bar: Track) -> None:
        """Spend the budget."""
        progress, config, started = self.progress, self.config, time.monotonic()
        first = progress.env_steps
        bar.advance(first)
        # Where nothing is to be played, or of a run that was killed at its end.
        if self._ended() and (self._learn_after() or progress.rows[-1]["env_steps"] != progress.env_steps):
            self._look()
        while not self._ended():
            before = progress.env_steps
            self._step()
            if self._ended():
                self._learn_after()
            if crossed(before, progress.env_steps, config.evaluate_every) or self._ended():
                self._look()
                if self.arena.evaluate is not None and not self._ended():
                    self.obs, self._last = self._reset(), None  # looking used the environments: their episodes are over
            self._due |= crossed(before, progress.env_steps, config.checkpoint_every)
            if self._due and (self.arena.restorable or self._between_episodes()):
                self._save()
            rate = (progress.env_steps - first) / max(time.monotonic() - started, 1e-9)
            bar.advance(progress.env_steps - before, f"success {_mean(progress.recent):.2f} {rate:.0f} steps/s")
        self.arena.journal.end()

    def _learn_after(self) -> bool:
        """Once, when the budget is spent, and again after a run that was killed meanwhile; whether it was now."""
        progress, config = self.progress, self.config
        if progress.learned_after or not config.updates_after:
            return False
        with Track("learn", config.updates_after) as bar:
            for first in range(0, config.updates_after, SLICE):
                updates = min(SLICE, config.updates_after - first)
                self._learn(updates / config.updates_per_chunk)
                bar.advance(updates)
        progress.learned_after = True
        return True

    def _step(self) -> None:
        """A chunk in every environment, and learning from those before it meanwhile where the learner can."""
        progress, vector, learner = self.progress, self.arena.vector, self.learner
        if self._last is not None:
            self.obs = vector.ready(self._last)
        assert self.obs is not None  # noqa: S101 - there is a budget to spend
        obs = torch.from_numpy(self.obs)
        with self.watch("sampling"):
            choice, chunk = learner.act(obs, progress.env_steps < self.initial_steps)
        with self.watch("stepping"):
            vector.begin(chunk.numpy())
        if learner.overlaps:
            self._learn()
        with self.watch("stepping"):
            step = vector.finish()
        if not step.steps.any():
            raise ConfigError(f"all {len(self.arena.starts)} starts are used up after {progress.env_steps} steps.")
        self._take(obs, choice, step)
        progress.starts_used, self._last = progress.base + vector.used, step
        self.arena.experience.add(Record(obs, choice, step, progress.env_steps, progress.starts_used))
        if not learner.overlaps and (self.arena.restorable or self._between_episodes()):
            self._learn()  # on a robot nothing waits for it in the middle of an episode

    def _take(self, obs: Tensor, choice: Tensor, step: Transition) -> None:
        """Store and count; what a person did is not what was chosen, so nothing is learned from it here."""
        if step.intervened:
            self.learner.cut()
        else:
            self.learner.store(obs, choice, step)
        _count(self.progress, step)

    def _between_episodes(self) -> bool:
        return self._last is not None and bool((self._last.terminated | self._last.truncated).all())

    def _learn(self, chunks: float | None = None) -> None:
        """As much as ``chunks`` played are worth; by default one in every environment, once `initial_steps` are played."""
        progress = self.progress
        if chunks is None and progress.env_steps <= self.initial_steps:
            return
        with self.watch("learning"):
            progress.metrics = self.learner.learn(chunks or self.arena.vector.n) or progress.metrics
        check(progress.metrics, self.config, progress.env_steps)

    def _look(self) -> None:
        """Add a row to the learning curve; remember the policy if it is the best so far."""
        progress = self.progress
        row: Row = {
            "env_steps": progress.env_steps,
            "training_episodes": progress.episodes,
            "training_success": _mean(progress.recent),
        }
        if self.arena.evaluate is not None:
            with self.watch("looking"):
                row |= self.arena.evaluate(self.learner.policy(), self.arena.vector)
            # Where success is rare, looks that tie in it differ in how near they came.
            found = row["success"], row.get("mean_max_reward", 0.0)
            if found >= (progress.best, progress.best_reward):
                (progress.best, progress.best_reward), progress.best_at = found, progress.env_steps
                self.best = {n: {k: v.clone() for k, v in own.items()} for n, own in self.learner.weights().items()}
        progress.rows.append(row | progress.metrics)
        self.arena.journal.add(progress.rows[-1])

    def _save(self) -> None:
        state = {"learner": self.learner.state(), "progress": self.progress.state(), "best": self.best}
        self.arena.checkpoints.save({**state, "episodes": self.arena.vector.save()})
        self.arena.experience.clear()
        self._due = False


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, after]; never for 0."""
    return every > 0 and before // every != after // every


def _count(progress: Progress, step: Transition) -> None:
    over = step.terminated | step.truncated
    progress.env_steps += int(step.steps.sum())
    progress.episodes += int(over.sum())
    progress.recent.extend(bool(success) for success in step.success[over])


def check(metrics: Metrics, config: FinetuneConfig, env_steps: int) -> None:
    """Raise TrainingDivergedError, with what to try, for numbers that cannot come right again."""
    after = f"finetuning diverged after {env_steps} steps"
    if not all(map(math.isfinite, metrics.values())):
        raise TrainingDivergedError(f"{after}: {metrics}. Lower learning_rate or updates_per_chunk.")
    largest = EXPLODED / (1 - config.discount) if config.discount < 1 else math.inf
    if abs(metrics.get("q", 0.0)) > largest:
        raise TrainingDivergedError(
            f"{after}: the mean value is {metrics['q']:.0f}, where {largest / EXPLODED:.0f} is the most that the discount "
            "allows with rewards from -1 to 1. Scale the environment's, or lower learning_rate, tau or updates_per_chunk."
        )
    if metrics.get("temperature", 0.0) > HOTTEST:
        raise TrainingDivergedError(
            f"{after}: the entropy has collapsed (temperature {metrics['temperature']:.0f}). Lower target_entropy or "
            "learning_rate, or raise noise_bound."
        )


def _mean(values: deque[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
