"""One demonstration and what makes it acceptable."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from numpy import ndarray

from postbc.errors import DataError

KEY = re.compile(r"\w[\w.-]{0,199}")  # name of an observation, and of its array in the store

WIDEST = 1024  # numbers in an action
ONE_A_STEP = ("reward", "success")
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Episode:
    """T steps; ``obs[t]`` is what was seen before ``action[t]``, ``reward[t]`` and ``success[t]`` what came of it.

    ``facts`` are JSON values about the episode: its name in the source, operator, seed. ``timestamp`` is in seconds, where
    the source has them; they are checked and not stored.
    """

    action: Float32[ndarray, "T A"]
    obs: dict[str, Float32[ndarray, "T ..."] | UInt8[ndarray, "T h w C"]]
    reward: Float32[ndarray, "T"]
    success: Bool[ndarray, "T"]
    facts: dict[str, Any] = field(default_factory=dict)
    timestamp: Float64[ndarray, "T"] | None = None

    def __len__(self) -> int:
        return len(self.action)

    def arrays(self) -> dict[str, ndarray]:
        """All arrays by the key they have in the store."""
        return {
            "action": self.action,
            "reward": self.reward,
            "success": self.success,
            **{f"obs/{key}": value for key, value in self.obs.items()},
        }


def sound(episode: Episode, where: str) -> Episode:
    """``episode``, whose facts come from a file, with facts that can be relied on and kept as JSON.

    Rewards and successes that are a column (T, 1) become (T,). Raises DataError for a name, rate or description of the
    environment that is none, and for an array without frames.
    """
    facts = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in episode.facts.items()}
    rate = facts.get("fps", 1.0)
    wrong = [key for key in ("name", "env_args") if not isinstance(facts.get(key, "-"), str)]
    wrong += ["name"] if not facts.get("name") else []
    wrong += ["fps"] if isinstance(rate, bool | str) or not isinstance(rate, int | float) or rate <= 0 else []
    wrong += [key for key, values in episode.arrays().items() if values.ndim == 0]
    if wrong:
        raise DataError(f"{where}: its {wrong[0]} is {str(facts.get(wrong[0], 'a single number'))[:40]!r}.")
    flat = {k: v[:, 0] if v.ndim == 2 and v.shape[1] == 1 else v for k, v in vars(episode).items() if k in ONE_A_STEP}
    return replace(episode, facts=facts, **flat)


def common(facts: Sequence[Facts]) -> Facts:
    """What is the same in all of them."""
    return {k: v for k, v in facts[0].items() if all(k in one and one[k] == v for one in facts)} if facts else {}


def as_uint8(images: ndarray, where: str) -> UInt8[ndarray, "T h w C"]:
    """Images whose values are whole numbers from 0 to 255, as such; DataError naming ``where`` for others."""
    stored = images.astype(np.uint8)
    if images.ndim != 4 or not np.array_equal(stored, images):
        raise DataError(f"{where}: expected images (T, h, w, C) with whole values from 0 to 255.")
    return stored


def check_episode(episode: Episode, where: str) -> None:
    """Raise DataError naming ``where``, the key and the frame of the first thing wrong.

    Refused: no steps, arrays of different length, an action that is not (T, A), rewards or successes that are not (T,),
    values that are not finite, no observation, or one whose name could not be that of a file.
    """
    if not episode.obs:
        raise DataError(f"{where}: nothing was observed.")
    odd = [key for key in episode.obs if not KEY.fullmatch(key)]
    if odd:
        raise DataError(f"{where}: observations are named by letters, digits, '_', '.' and '-', not {odd[0]!r}.")
    if len(episode) == 0:
        raise DataError(f"{where}: the episode is empty. Remove it from the file.")
    if episode.action.ndim != 2 or episode.action.shape[1] > WIDEST:
        raise DataError(
            f"{where}: action has shape {episode.action.shape}, expected (T, A) with A of at most {WIDEST}."
        )
    for key, values in episode.arrays().items():
        if key in ONE_A_STEP and values.ndim != 1:
            raise DataError(f"{where}: {key} has shape {values.shape}, one number a step is expected.")
        if len(values) != len(episode):
            raise DataError(f"{where}: {key} has {len(values)} frames, action has {len(episode)}.")
        if values.size == 0:
            raise DataError(f"{where}: {key} has shape {values.shape} and so no number in it.")
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            raise DataError(f"{where}: {key} is not finite at frame {int(np.argmin(finite))}.")


def layout(episode: Episode) -> dict[str, str]:
    """Shape of one frame of every array and, of bytes, that they are; by key. All episodes of a store share it."""
    arrays = episode.arrays().items()
    return {key: f"{values.shape[1:]}{' of bytes' * (values.dtype == np.uint8)}" for key, values in arrays}


def check_layout(episode: Episode, expected: dict[str, str], where: str) -> None:
    """Raise DataError when keys or shapes differ from the episodes before, or bytes from numbers."""
    found = layout(episode)
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            raise DataError(
                f"{where}: {key} has frames of shape {found.get(key, 'absent')}, "
                f"the episodes before it {expected.get(key, 'absent')}. One store holds one kind of episode."
            )
