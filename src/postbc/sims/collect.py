"""Collect demonstrations from scripted operators.

Attempt ``k`` of seed ``s`` draws its operator, its initial state and its imperfections from ``(s, k)`` alone,
and only successes are kept: a set of 20 is the beginning of the set of 50 with the same arguments.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np

from postbc.config import TaskConfig
from postbc.errors import ConfigError, DataError
from postbc.progress import Track
from postbc.sims import get_task
from postbc.sims.recording import Episode, play, write_hdf5
from postbc.sims.starts import DEMONSTRATIONS, nth_seed
from postbc.sims.task import OperatorFactory, Task, TaskEnv

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
        raise ConfigError(f"{task.name} has no scripted operators; record people, or collect on lift or reach.")
    unknown = sorted(set(names or ()) - set(pool))
    if unknown or names == []:
        raise ConfigError(f"operators {', '.join(unknown) or '(none)'} of {task.name}; there is {', '.join(pool)}.")
    return {name: pool[name] for name in names or pool}


def _attempts(
    env: TaskEnv, pool: Mapping[str, OperatorFactory], seed: int, scale: float, max_steps: int
) -> Iterator[Episode]:
    """Attempt 0, 1, 2, …; success or not."""
    names = sorted(pool)  # the order in which they were asked for changes nothing
    for k in count():
        generator = np.random.default_rng([seed, k])
        name = names[int(generator.integers(len(names)))]
        start = nth_seed(DEMONSTRATIONS, seed, k)
        yield play(env, pool[name](generator, scale), Episode(name, start), max_steps)


def collect(  # the arguments of `postbc collect`
    task: TaskConfig,
    out: Path,
    episodes: int,
    operators: Sequence[str] | None = None,
    seed: int = 0,
    scale: float = 1.0,
) -> Tally:
    """Write ``episodes`` successful demonstrations of ``task`` to the robomimic file ``out``.

    ``operators`` None takes the whole pool; ``scale`` multiplies every imperfection, 0 is flawless; attempts
    longer than ``task.max_steps`` are dropped. The file is replaced whole or not at all; equal arguments and
    simulator versions give equal bytes. Raises ConfigError for impossible arguments, DataError if the
    operators hardly ever succeed.
    """
    if episodes < 1 or scale < 0 or seed < 0:
        raise ConfigError(f"episodes = {episodes}, scale = {scale}, seed = {seed}: at least 1, 0 and 0 are expected.")
    description = get_task(task.env)
    pool = _chosen(description, operators)
    env, tally, kept = description.make(**task.options), Tally(), list[Episode]()
    try:
        with Track(f"collect {task.name}", episodes) as progress:
            for episode in _attempts(env, pool, seed, scale, task.max_steps):
                tally.count(episode)
                if episode.success:
                    kept.append(episode)
                    progress.advance(note=f"({tally.attempts.total()} attempts)")
                if len(kept) == episodes:
                    break
                _check_hope(tally, episodes)
    finally:
        env.close()
    write_hdf5(out, kept, {**description.env_args(task.options), "versions": description.versions()})
    return tally


def _check_hope(tally: Tally, episodes: int) -> None:
    attempts, successes = tally.attempts.total(), tally.successes.total()
    if attempts >= PATIENCE * max(episodes, 5):
        raise DataError(
            f"{attempts} attempts gave {successes} of {episodes} demonstrations; lower scale, "
            "raise max_steps or choose other operators."
        )
