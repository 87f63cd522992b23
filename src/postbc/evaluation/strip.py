"""A strip under each picture of an episode: how uncertain the posterior is of what the demonstrator would do there."""

from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
import torch
from PIL import Image, ImageDraw

from postbc.observation import History
from postbc.posterior.artifact import STATES
from postbc.posterior.models import load_model
from postbc.sims.task import TaskEnv
from postbc.storage.tensors import load_tensors

HEIGHT: Final = 48  # pixels, even as H.264 wants it
TEXT: Final = 14  # pixels of them
FULL: Final = 0.5  # half ranges of the action at the strip's upper edge, the same for all: videos can be compared
PAPER, BAR, INK = (246, 247, 249), (210, 105, 30), (28, 36, 48)


class SpreadStrip(gym.Wrapper):
    """A task whose pictures carry the spread of the posterior in ``folder`` along the episode so far.

    The whole width is ``max_steps``. The spread is the root mean square deviation of the posterior's chunks from their mean at
    what is observed, in half ranges of the action.
    """

    def __init__(self, env: TaskEnv, folder: Path, max_steps: int) -> None:
        """Raises IntegrityError where ``folder`` is damaged."""
        super().__init__(env)
        self._model, stored = load_model(folder), load_tensors(folder / STATES)
        self._half = stored["half"]
        self._history, self._max_steps = History(self._model.observer.shape.history), max_steps
        self._steps, self._seen = 0, list[tuple[int, float]]()

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(**options)
        self._steps, self._row = 0, self._history.begin(observation)
        self._seen.clear()
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One control step."""
        observation, *rest = self.env.step(action)
        self._history.add(observation)
        self._steps, self._row = self._steps + 1, self._history.row()
        return observation, *rest

    def render(self) -> Any:
        """The scene, the strip below: (height + 48, width, 3) uint8."""
        picture = np.asarray(self.env.render())
        spread = float(self._model.spread(torch.from_numpy(self._row)[None], self._half))
        self._seen.append((self._steps, spread))
        return np.concatenate([picture, self._strip(picture.shape[1])])

    def _strip(self, width: int) -> Any:
        strip = np.full((HEIGHT, width, 3), PAPER, np.uint8)
        begin = 0  # pixels; an observation's bar reaches from the one before it to its own step
        for step, spread in self._seen:
            end = round(width * step / self._max_steps)
            strip[HEIGHT - round((HEIGHT - TEXT) * min(spread / FULL, 1)) :, begin:end] = BAR
            begin = end
        image = Image.fromarray(strip)
        ImageDraw.Draw(image).text((4, 1), f"posterior spread {self._seen[-1][1]:.2f} (top: {FULL})", fill=INK)
        return np.asarray(image)
