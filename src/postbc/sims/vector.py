"""Environments side by side whose action is a chunk: what finetuners and the evaluator step.

One message to a worker process carries a whole chunk (H actions), because a message costs about as much as a fast
simulator's step. Episodes start from seeds that are handed out in order, so which initial states a run has seen is a
function of its configuration alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from postbc.config import TaskConfig
from postbc.observation import History
from postbc.sims import get_task
from postbc.sims.stepping import Stepping, vector_env
from postbc.sims.task import TaskEnv

Array = NDArray[Any]
NO_SEED = -1  # no initial state is left: the environment idles


class ChunkEnv(gym.Env):
    """A task whose action is a chunk (H, A), executed open loop until it ends or the episode does.

    The reward of a chunk is Σ_i γ^i r_i over the steps executed. ``info`` has ``steps`` executed, ``success``,
    ``best`` (largest reward of the episode so far) and the ``seed`` of the episode.
    """

    def __init__(self, env: TaskEnv, recipe: "ChunkEnvs", discount: float, place: tuple[int, int]) -> None:
        """``place`` is (i, n): this is the i-th of n environments and plays every n-th of their starts."""
        self.env, self.max_steps, self.discount, self.place = env, recipe.max_steps, discount, place
        shape, chunk = replace(env.shape, history=recipe.history), recipe.chunk
        self._history = History(recipe.history)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (shape.row,), np.float32)
        self.action_space = gym.spaces.Box(-np.inf, np.inf, (chunk, *env.action_space.shape), np.float32)
        self._starts: Iterator[int] = iter(())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start the next episode. ``options["starts"]`` begins a new list of initial states; idle when it is used up."""
        if options is not None:
            number, count = self.place
            self._starts = iter(options["starts"][number::count])
        return self._begin(next(self._starts, NO_SEED)), self._info(0, False)

    def _begin(self, seed: int) -> Array:
        """The first observation of the episode of ``seed``."""
        self._seed, self._steps, self._best = seed, 0, 0.0
        if seed == NO_SEED:
            return np.zeros(self.observation_space.shape, np.float32)
        return self._history.begin(self.env.reset(seed=seed)[0])

    def resume(self, begun: Sequence[int], played: Sequence[Sequence[Array]]) -> Array:
        """Go on after a reset: to this environment's ``begun``-th start, and through the chunks ``played`` from it."""
        number = self.place[0]
        if begun[number] > 1:
            later = [next(self._starts, NO_SEED) for _ in range(begun[number] - 1)]
            row = self._begin(later[-1])
        else:
            row = self._begin(self._seed)
        for chunk in played[number]:
            row = self.step(chunk)[0]
        return row

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Execute a chunk."""
        if self._seed == NO_SEED:
            return np.zeros(self.observation_space.shape, np.float32), 0.0, False, False, self._info(0, False)
        total, executed, terminated = 0.0, 0, False
        for row in action:
            observation, reward, terminated, truncated, info = self.env.step(row)
            self._history.add(observation)
            total += self.discount**executed * float(reward)
            executed, self._steps = executed + 1, self._steps + 1
            self._best = float(reward) if self._steps == 1 else max(self._best, float(reward))
            if terminated or truncated or self._steps >= self.max_steps:
                break
        truncated = not terminated and (truncated or self._steps >= self.max_steps)
        return self._history.row(), total, terminated, truncated, self._info(executed, info["is_success"])

    def _info(self, executed: int, success: bool) -> dict[str, Any]:
        return {"steps": executed, "success": bool(success), "best": self._best, "seed": self._seed}

    def close(self) -> None:
        """Close the task."""
        self.env.close()


@dataclass(frozen=True)
class Transition:
    """What one chunk in each of n environments led to.

    ``final`` is the observation right after the chunk, ``obs`` the one to act on next (of a new episode where one
    ended). ``seed`` is that of the episode played, NO_SEED where the environment idled.
    """

    obs: Array  # (n, O)
    final: Array  # (n, O)
    reward: Array  # (n,)
    terminated: Array  # (n,) bool
    truncated: Array  # (n,) bool
    steps: Array  # (n,) int
    success: Array  # (n,) bool
    best: Array  # (n,)
    seed: Array  # (n,) int
    intervened: bool = (
        False  # whether what was executed is not what was chosen: a person had the arm, or it came too late
    )

    def of(self, chosen: Array) -> "Transition":
        """That of the environments ``chosen`` (n,) bool."""
        arrays = {name: value[chosen] for name, value in vars(self).items() if name != "intervened"}
        return Transition(**arrays, intervened=self.intervened)


class Environments(Protocol):
    """What a finetuner plays in: simulators side by side, or one robot."""

    n: int

    @property
    def used(self) -> int:
        """Length of the shortest prefix of the starts after which none has been begun."""

    def reset(self, starts: Sequence[int]) -> Array:
        """Begin episodes from ``starts``; observations (n, O)."""

    def begin(self, chunks: Array) -> None:
        """Start to execute chunks (n, H, A)."""

    def finish(self) -> Transition:
        """Wait for what :meth:`begin` started."""

    def ready(self, step: Transition) -> Array:
        """The observations (n, O) to act on after ``step``."""

    def save(self) -> dict[str, Any]:
        """Where every environment stands."""

    def restore(self, starts: Sequence[int], saved: dict[str, Any]) -> Array:
        """Begin ``starts`` anew and go on to where :meth:`save` was called."""

    def close(self) -> None:
        """Stop."""


class ChunkVector:
    """n chunk environments side by side.

    ``playing`` holds the seed of the episode that each environment is in, NO_SEED where it idles.
    """

    def __init__(self, make: Sequence[Callable[[], ChunkEnv]], stepping: Stepping) -> None:
        self._vector: Any = vector_env(make, stepping)
        self.n = len(make)
        self.obs_dim = int(self._vector.single_observation_space.shape[0])

    def reset(self, starts: Sequence[int]) -> Array:
        """Begin episodes from ``starts``, dealt to the environments in turn; observations (n, O) of the first ones."""
        obs, info = self._vector.reset(options={"starts": list(starts)})
        self.playing: Array = np.asarray(info["seed"])
        self._begun: Array = np.ones(self.n, int)
        self._played: list[list[Array]] = [[] for _ in range(self.n)]
        return np.asarray(obs)

    def save(self) -> dict[str, Any]:
        """Where every environment stands: which of its starts it plays, and the chunks played from it (k, H, A)."""
        empty = np.zeros((0, *self._vector.single_action_space.shape), np.float32)
        played = {i: torch.from_numpy(np.stack(own) if own else empty) for i, own in enumerate(self._played)}
        return {"begun": self._begun.tolist(), "played": played}

    def restore(self, starts: Sequence[int], saved: dict[str, Any]) -> Array:
        """Begin ``starts`` anew and go on to where :meth:`save` was called, exactly, by playing it again."""
        self.reset(starts)
        self._begun = np.array(saved["begun"])
        self._played = [list(saved["played"][i].numpy()) for i in range(self.n)]
        rows = self._vector.call("resume", saved["begun"], self._played)
        dealt = [list(starts)[i :: self.n] for i in range(self.n)]
        now = [own[k - 1] if k <= len(own) else NO_SEED for own, k in zip(dealt, saved["begun"], strict=True)]
        self.playing = np.array(now)
        return np.stack(rows)

    @property
    def used(self) -> int:
        """Length of the shortest prefix of the starts after which none has been begun."""
        return self.n * int(self._begun.max())

    def step(self, chunks: Array) -> Transition:
        """Execute chunks (n, H, A)."""
        self.begin(chunks)
        return self.finish()

    def begin(self, chunks: Array) -> None:
        """Start to execute chunks (n, H, A); the caller may do something else meanwhile."""
        self._chunks = np.array(chunks)
        self._vector.step_async(self._chunks)

    def finish(self) -> Transition:
        """Wait for what :meth:`begin` started."""
        obs, reward, terminated, truncated, info = self._vector.step_wait()
        over, final = terminated | truncated, obs.copy()
        played = self.playing
        for i, own in enumerate(self._played):
            own.clear() if over[i] else own.append(self._chunks[i])
        for i in np.flatnonzero(over):
            final[i] = info["final_obs"][i]
        steps, success, best = (self._merge(info, key, over) for key in ("steps", "success", "best"))
        self.playing = np.where(over, info["seed"], played)
        self._begun += over
        return Transition(obs, final, reward, terminated, truncated, steps, success, best, played)

    def _merge(self, info: dict[str, Any], key: str, over: Array) -> Array:
        # Where an episode ended, ``info`` describes the new one and ``final_info`` the step that was asked for.
        return np.where(over, info["final_info"][key], info[key]) if over.any() else np.asarray(info[key])

    def ready(self, step: Transition) -> Array:
        """The observations (n, O) to act on after ``step``."""
        return step.obs

    def close(self) -> None:
        """Stop the workers."""
        self._vector.close()


@dataclass(frozen=True)
class ChunkEnvs:
    """Recipe for a vector of chunk environments: how to make one task, and how it is stepped."""

    make_task: Callable[[], TaskEnv]
    chunk: int
    max_steps: int
    stepping: Stepping = Stepping.SERIAL
    history: int = 1  # K, observations that make a row

    @classmethod
    def of(cls, config: TaskConfig, make: Callable[[], TaskEnv] | None = None) -> "ChunkEnvs":
        """Those of a configured task, made by ``make`` where it is not the simulator itself."""
        task = get_task(config.env)
        made = make or partial(task.make, **config.options)
        return cls(made, config.chunk, config.max_steps, task.stepping(), config.history)

    def vector(self, n: int, discount: float = 1.0) -> ChunkVector:
        """``n`` environments side by side."""
        return ChunkVector([partial(self.one, discount, (i, n)) for i in range(n)], self.stepping)

    def one(self, discount: float, place: tuple[int, int]) -> ChunkEnv:
        """A single one; ``place`` is (i, n) of the i-th of n."""
        return ChunkEnv(self.make_task(), self, discount, place)
