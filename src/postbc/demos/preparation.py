"""What is done to recorded episodes before they are stored: keys named as the task calls them, images scaled and drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from postbc.config import IngestConfig
from postbc.demos.episode import Episode
from postbc.errors import DataError
from postbc.observation import RENAME, scaled

CHANNELS = 4  # of an image, at most
Recorded = Mapping[str, np.ndarray]  # observations (T, …) by key


@dataclass(frozen=True)
class Drawing:
    """Camera images that a task needs under ``key``, and how they follow from what was recorded."""

    key: str
    draw: Callable[[Recorded], np.ndarray]


@dataclass(frozen=True)
class Preparation:
    """``keys`` maps recorded observations to the task's names, None leaves one out; ``image_size`` is (height, width)."""

    keys: Mapping[str, str | None] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    drawing: Drawing | None = None
    fit: Callable[[Recorded, int], None] | None = None  # the task's: raises DataError for what it can not be trained on

    @classmethod
    def of(
        cls, settings: IngestConfig, drawing: Drawing | None = None, fit: Callable[[Recorded, int], None] | None = None
    ) -> "Preparation":
        """What params.yaml asks for, and the task needs."""
        size = settings.image_size
        return cls(settings.keys, (size[0], size[1]) if size else None, drawing, fit)

    def named(self, episode: Episode, where: str) -> Episode:
        """``episode`` with the task's keys. Raises DataError for a key that is not there or a name that is taken."""
        absent = sorted(self.keys.keys() - episode.obs.keys())
        if absent:
            held = ", ".join(sorted(episode.obs))
            raise DataError(f"{where}: ingest.keys names {', '.join(absent)}; the recording has {held or 'none'}.")
        names = {key: self.keys.get(key, key) for key in episode.obs}
        wanted = [name for name in names.values() if name is not None]
        twice = sorted({name for name in wanted if wanted.count(name) > 1})
        if twice:
            raise DataError(f"{where}: with ingest.keys two observations would be called {', '.join(twice)}.")
        return replace(episode, obs={name: episode.obs[key] for key, name in names.items() if name is not None})

    def refuse_unfit(self, episode: Episode, where: str) -> None:
        """Raise DataError where the task can not use ``episode``, which has its names: before more is read."""
        if self.fit is None:
            return
        try:
            self.fit(self.pictured(episode).obs, episode.action.shape[1])
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        except (LookupError, ValueError, TypeError) as error:
            raise DataError(f"{where}: {error} {RENAME}") from error

    def pictured(self, episode: Episode) -> Episode:
        """``episode`` with its images scaled, and drawn where the task needs some that were not recorded."""
        obs = {key: self._scaled(v, key) if v.ndim == 4 else v for key, v in episode.obs.items()}
        if self.drawing and self.drawing.key not in obs:
            obs[self.drawing.key] = self.drawing.draw(episode.obs)
        return replace(episode, obs=obs)

    def _scaled(self, images: np.ndarray, key: str) -> np.ndarray:
        """(T, h, w, C) → (T, *image_size, C)."""
        if self.image_size is None or images.shape[1:3] == self.image_size:
            return images
        if images.dtype != np.uint8 or images.shape[3] > CHANNELS:
            held = f"{images.dtype} of shape {images.shape[1:]}"
            raise DataError(
                f"ingest.image_size scales uint8 images (h, w, C); {key} is {held}. Leave it out: keys: {{{key}: null}}."
            )
        return np.stack([scaled(image, self.image_size) for image in images])
