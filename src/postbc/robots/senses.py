"""Whether what a robot says can be believed: its arm follows what it is commanded, its cameras see that it moves."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from postbc.config.robot import GuardConfig
from postbc.errors import RobotError

STANDING = 1.0  # seconds in which a camera's picture may stay the same to the last bit while the arm moves


class Senses:
    """Of one episode; ``names`` are the numbers (A,) of an action, some of them ``speeds``."""

    def __init__(
        self,
        config: GuardConfig,
        names: list[str],
        speeds: Bool[ndarray, "A"],
        limits: tuple[Float[ndarray, "A"], float],
    ) -> None:
        """``limits``: the largest step (A,), and the control period in seconds."""
        lead = np.full(len(names), np.inf) if config.max_lead is None else np.asarray(config.max_lead, float)
        self.lead, self.speeds = np.where(speeds, np.inf, lead), speeds  # a velocity leads nowhere
        (max_step, period) = limits
        self.names, self.max_step, self.period = names, max_step, period
        self._pictures: dict[str, tuple[ndarray, ndarray, int]] = {}  # since when, in steps, and where the arm was then

    def begin(self) -> None:
        """An episode starts."""
        self._pictures = {}

    def check(
        self,
        told: Float[ndarray, "A"] | None,
        here: Float[ndarray, "A"],
        pictures: Mapping[str, UInt8[ndarray, "h w C"]],
    ) -> None:
        """Look at one observation: ``here`` is where the arm is said to be, NaN where that is not measured.

        Raises RobotError when it is farther from the last action ``told`` than ``max_lead``, because it is blocked or its
        driver says an old position; or when a picture stays the same for STANDING seconds in which the arm moves by a step.
        """
        lead = np.zeros_like(here) if told is None else np.nan_to_num(np.abs(told - here))
        if (lead > self.lead).any():
            where = int(np.argmax(lead - self.lead))
            raise RobotError(
                f"{self.names[where]} is {lead[where]:.4g} away from where it was commanded, max_lead is "
                f"{self.lead[where]:.4g}: it is blocked, or what its driver says is old. It was stopped."
            )
        for name, picture in pictures.items():
            before, there, since = self._pictures.get(name, (None, here, 0))
            if before is None or not np.array_equal(before, picture):
                self._pictures[name] = picture, here, 0
                continue
            self._pictures[name] = before, there, since + 1
            drives = told is not None and bool(told[self.speeds].any())
            moves = drives or bool((np.nan_to_num(np.abs(here - there)) > self.max_step).any())
            if (since + 1) * self.period >= STANDING and moves:
                raise RobotError(f"the camera {name} gives the same picture while the arm moves. It was stopped.")
