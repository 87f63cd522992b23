"""Ways to step environments side by side; which one is best for a task is measured (`make bench-sims`)."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv


class Stepping(Enum):
    """How the environments of a vector are stepped; what they do is the same."""

    SERIAL = "serial"  # one after the other: a step costs less than handing it over
    THREADS = "threads"  # the step releases the GIL
    PROCESSES = "processes"  # it does not, and takes long


class _Ahead(gym.Wrapper):
    """An environment whose step may begin before it is asked for."""

    def begin(self, pool: ThreadPoolExecutor, action: Any) -> None:
        """Start the step on another thread."""
        self._step: Future[Any] = pool.submit(self.env.step, action)

    def step(self, action: Any) -> Any:
        """What the step that was begun led to."""
        return self._step.result()


class SerialVectorEnv(SyncVectorEnv):
    """Gymnasium's SyncVectorEnv, stepped in two calls like its AsyncVectorEnv.

    Everything happens in the first: what a robot is asked to do was chosen for what it has just seen, so nothing that takes
    time may come in between.
    """

    def step_async(self, actions: Any) -> None:
        """Step every environment."""
        self._result = self.step(actions)

    def step_wait(self) -> Any:
        """What the step led to."""
        return self._result


class ThreadVectorEnv(SyncVectorEnv):
    """All steps are begun at once, on as many threads as there are cores.

    Resets stay on the calling thread: simulators draw from global generators there.
    """

    def __init__(self, make: Sequence[Callable[[], gym.Env]], **options: Any) -> None:
        self._pool = ThreadPoolExecutor(min(len(make), os.cpu_count() or 1), "simulator")
        super().__init__([partial(_ahead, one) for one in make], **options)

    def step_async(self, actions: Any) -> None:
        """Begin to step every environment."""
        self._next = actions
        for env, action in zip(self.envs, actions, strict=True):
            env.begin(self._pool, action)

    def step_wait(self) -> Any:
        """Wait for what was begun."""
        return self.step(self._next)

    def close_extras(self, **options: Any) -> None:
        """Wait for the threads, then close the environments."""
        self._pool.shutdown()
        super().close_extras(**options)


def _ahead(make: Callable[[], gym.Env]) -> gym.Env:
    return _Ahead(make())


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Worker processes started inside use one thread: several each would fight over the cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def vector_env(
    make: Sequence[Callable[[], gym.Env]], stepping: Stepping
) -> SerialVectorEnv | ThreadVectorEnv | AsyncVectorEnv:
    """The environments side by side; where an episode ends, the same step begins the next."""
    mode = AutoresetMode.SAME_STEP
    if stepping is Stepping.THREADS and len(make) > 1:
        return ThreadVectorEnv(make, autoreset_mode=mode)
    if stepping is Stepping.PROCESSES and len(make) > 1:
        with _one_thread_each():
            return AsyncVectorEnv(list(make), context="forkserver", autoreset_mode=mode)
    return SerialVectorEnv(list(make), autoreset_mode=mode)
