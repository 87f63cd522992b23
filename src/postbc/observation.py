"""What an observation is as one row of numbers, and how the rows of an episode follow from what is seen step by step.

A row holds the last K low-dimensional observations, oldest first (each the robot's own state, then the environment's),
then the last K images, oldest first, (C, h, w) each with values 0 to 255. Before an episode is K steps old, its first
observation stands for those that are missing.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray
from PIL import Image

STATE, ENVIRONMENT, PIXELS = "agent_pos", "environment_state", "pixels"  # keys of an environment's observation
# (T, 1) in a robot's recordings, beside what its policy read: 1 where a person had the arm.
INTERVENTION = "intervention"
RENAME = "`ingest.keys` gives recorded observations the task's names."  # said where one is missing


@dataclass(frozen=True)
class ObsShape:
    """Sizes of what is seen at one step, and of the row that a policy reads."""

    state: int  # S, the robot's own state
    environment: int  # V, the state of the things around it
    pixels: tuple[int, int, int] | None = None  # C, h, w of a camera image
    history: int = 1  # K, steps that are read

    def __post_init__(self) -> None:
        """Take a list for ``pixels`` as well, as JSON gives it."""
        object.__setattr__(self, "pixels", tuple(self.pixels) if self.pixels else None)

    @property
    def vector(self) -> int:
        """Low-dimensional numbers in a row."""
        return self.history * (self.state + self.environment)

    @property
    def images(self) -> tuple[int, int, int] | None:
        """K images as one of K·C channels."""
        return (self.history * self.pixels[0], *self.pixels[1:]) if self.pixels else None

    @property
    def row(self) -> int:
        """O, all numbers in a row."""
        return self.vector + int(np.prod(self.images or 0))

    def json(self) -> dict[str, Any]:
        """Arguments that build it again."""
        return asdict(self)


def scaled(image: UInt8[ndarray, "h w C"], size: tuple[int, int]) -> UInt8[ndarray, "y x C"]:
    """``image`` at ``size`` (height, width): every pixel is the mean of what it covers, so that nothing flickers."""
    if image.shape[:2] == size:
        return image
    # A channel by itself: Pillow would weigh colours by a fourth, which may be depth.
    parts = [Image.fromarray(image[..., channel]) for channel in range(image.shape[2])]
    return np.stack([np.asarray(part.resize(size[::-1], Image.Resampling.BOX)) for part in parts], axis=-1)


class History:
    """The last K observations of a running episode."""

    def __init__(self, length: int) -> None:
        self._seen: deque[Mapping[str, ndarray]] = deque(maxlen=length)

    def begin(self, observation: Mapping[str, ndarray]) -> Float32[ndarray, "O"]:
        """Row at the start of an episode."""
        self._seen.extend([observation] * (self._seen.maxlen or 1))
        return self.row()

    def add(self, observation: Mapping[str, ndarray]) -> None:
        """The next step of the episode."""
        self._seen.append(observation)

    def row(self) -> Float32[ndarray, "O"]:
        """Row at the present step."""
        vectors = [seen[key] for seen in self._seen for key in (STATE, ENVIRONMENT)]
        images = [seen[PIXELS].transpose(2, 0, 1).ravel() for seen in self._seen if PIXELS in seen]
        return np.concatenate([*vectors, *images], dtype=np.float32)
