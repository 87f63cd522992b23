"""Collect demonstrations from scripted operators.

Attempt ``k`` of seed ``s`` draws its operator, its initial state and its imperfections from ``(s, k)`` alone,
and only successes are kept: a set of 20 is the beginning of the set of 50 with the same arguments.
"""

import shutil
import signal
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np

from postbc.config import TaskConfig
from postbc.errors import ConfigError, DataError
from postbc.progress import Track
from postbc.sims import get_task
from postbc.sims.demonstrators.recording import Episode, play, read_part, write_hdf5, write_part
from postbc.sims.starts import DEMONSTRATIONS, nth_seed
from postbc.sims.task import OperatorFactory, Task, TaskEnv
from postbc.storage.checkpoint import identity

PATIENCE: Final = 20  # attempts an episode, on average, before the operators are thought unable


@dataclass
class Tally:
    """Attempts and successes of each operator, and the lengths of the episodes kept, in control steps."""

    attempts: Counter[str] = field(default_factory=Counter)
    successes: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)

    def count(self, episode: Episode) -> None:
        """Add one attempt."""
        self.attempts[episode.operator] += 1
        if episode.success:
            self.successes[episode.operator] += 1
            self.lengths.append(len(episode))


def _chosen(task: Task, names: Sequence[str] | None) -> Mapping[str, OperatorFactory]:
    """The operators called ``names``, or all of them. Raises ConfigError where there is none."""
    pool = task.operators()
    if not pool:
        raise ConfigError(f"{task.name} has no scripted operators; record people.")
    unknown = sorted(set(names or ()) - set(pool))
    if unknown or names == []:
        raise ConfigError(f"operators {', '.join(unknown) or '(none)'} of {task.name}; there is {', '.join(pool)}.")
    return {name: pool[name] for name in names or pool}


def default_task(name: str) -> TaskConfig:
    """The task called ``name`` with its own rate and time limit. Raises ConfigError for an unknown one."""
    known = get_task(name)
    return TaskConfig(name=name.replace("/", "-"), env=name, fps=known.fps, max_steps=known.horizon)


@dataclass(frozen=True)
class Recipe:
    """What decides attempt k: everything but how many are wanted and how many run at once."""

    task: TaskConfig
    operators: tuple[str, ...]  # sorted: the order in which they were asked for changes nothing
    seed: int
    scale: float

    @classmethod
    def of(
        cls, task: TaskConfig, operators: Sequence[str] | None = None, seed: int = 0, scale: float = 1.0
    ) -> "Recipe":
        """``operators`` None takes the whole pool; ``scale`` multiplies every imperfection, 0 is flawless.

        Raises ConfigError for operators that there are not and for impossible numbers.
        """
        if scale < 0 or seed < 0:
            raise ConfigError(f"scale = {scale}, seed = {seed}: at least 0 is expected.")
        return cls(task, tuple(sorted(_chosen(get_task(task.env), operators))), seed, scale)

    def attempt(self, env: TaskEnv, k: int) -> Episode:
        """Attempt ``k``, success or not."""
        generator = np.random.default_rng([self.seed, k])
        name = self.operators[int(generator.integers(len(self.operators)))]
        operator = get_task(self.task.env).operators()[name](generator, self.scale)
        return play(env, operator, Episode(name, nth_seed(DEMONSTRATIONS, self.seed, k)), self.task.max_steps)

    def parts(self, out: Path) -> Path:
        """Where attempts are kept until ``out`` is written, so that a collection that was killed goes on."""
        return out.parent / f".{out.name}.{identity(asdict(self), get_task(self.task.env).versions())[:12]}"


def _kept_or_played(recipe: Recipe, env: TaskEnv, parts: Path, k: int) -> Episode:
    part = parts / f"{k}.npz"
    if part.is_file():
        return read_part(part)
    episode = recipe.attempt(env, k)
    write_part(part, episode)
    return episode


_worker: dict[str, Any] = {}  # what a worker process was started with


def _start_worker(recipe: Recipe, parts: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    _worker.update(recipe=recipe, parts=parts, env=get_task(recipe.task.env).make(**recipe.task.options))


def _work(k: int) -> Episode:
    return _kept_or_played(_worker["recipe"], _worker["env"], _worker["parts"], k)


def _attempts(recipe: Recipe, parts: Path, workers: int) -> Generator[Episode]:
    """Attempt 0, 1, 2, …, in this order however many run at once."""
    if workers == 1:
        env = get_task(recipe.task.env).make(**recipe.task.options)
        try:
            yield from (_kept_or_played(recipe, env, parts, k) for k in count())
        finally:
            env.close()
    context = get_context("forkserver")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (recipe, parts))
    try:
        running = deque(pool.submit(_work, k) for k in range(2 * workers))
        for k in count(2 * workers):
            yield running.popleft().result()
            running.append(pool.submit(_work, k))
    finally:
        pool.shutdown(cancel_futures=True)


def collect(recipe: Recipe, out: Path, episodes: int, workers: int = 1) -> Tally:
    """Write ``episodes`` successful demonstrations to the robomimic file ``out``.

    Attempts longer than the task's ``max_steps`` are dropped. The file is replaced whole or not at all; equal recipes
    and simulator versions give equal bytes, whatever ``workers``. A collection that was killed goes on where it was.
    Raises ConfigError for impossible arguments, DataError if the operators hardly ever succeed.
    """
    if episodes < 1 or workers < 1:
        raise ConfigError(f"episodes = {episodes}, workers = {workers}: at least 1 of each is expected.")
    task = recipe.task
    description = get_task(task.env)
    parts, tally, kept = recipe.parts(out), Tally(), list[Episode]()
    parts.mkdir(parents=True, exist_ok=True)
    with Track(f"collect {task.name}", episodes) as progress, closing(_attempts(recipe, parts, workers)) as attempts:
        for episode in attempts:
            tally.count(episode)
            if episode.success:
                kept.append(episode)
                progress.advance(note=f"({tally.attempts.total()} attempts)")
            if len(kept) == episodes or _hopeless(tally, episodes):
                break
    if len(kept) < episodes:
        shutil.rmtree(parts)
        raise DataError(
            f"{tally.attempts.total()} attempts gave {len(kept)} of {episodes} demonstrations; lower scale, "
            "raise max_steps or choose other operators."
        )
    write_hdf5(out, kept, description.describe(task.options))
    shutil.rmtree(parts)
    return tally


def _hopeless(tally: Tally, episodes: int) -> bool:
    return tally.attempts.total() >= PATIENCE * max(episodes, 5)
