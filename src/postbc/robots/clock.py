"""The control period: on the wall's clock, measured, or on a simulated one that stands still between actions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

# Share of the period that lies between two actions at least, however late the first one was; more than the guard asks for.
SPACING = 0.7
RECENT = 200  # actions


@dataclass
class Timing:
    """How well a control rate was kept: how late each action was sent, in seconds, and how many ticks were overrun."""

    late: list[float] = field(default_factory=list)
    overruns: int = 0  # ticks that came after the next one was due
    starved: int = 0  # ticks for which no chunk had been planned in time

    def summary(self) -> dict[str, float]:
        """Milliseconds at the median and the 99th percentile, and counts."""
        return {**self._jitter(self.late), **self._counts()}

    def recent(self) -> dict[str, float]:
        """The same of the last RECENT actions: quickly, while the loop runs."""
        return {**self._jitter(self.late[-RECENT:]), **self._counts()}

    def _counts(self) -> dict[str, float]:
        return {"actions": len(self.late), "overruns": self.overruns, "starved": self.starved}

    @staticmethod
    def _jitter(values: Sequence[float]) -> dict[str, float]:
        late = values or [0.0]
        median, high = 1e3 * np.quantile(late, (0.5, 0.99))
        return {"jitter_ms": round(float(median), 3), "jitter_p99_ms": round(float(high), 3)}


# time.monotonic() stands still while a computer is suspended; an arm that is under power does not.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds that pass whatever the computer does, for what may not be left alone for long."""
    return time.clock_gettime(_STEADY)


class Clock(Protocol):
    """What a control loop waits on."""

    timing: Timing
    waits: bool  # whether time passes by itself

    def start(self) -> None:
        """The first tick is now."""

    def acting(self) -> None:
        """The action of this tick is sent now."""

    def acted(self) -> None:
        """It has been sent."""

    def tick(self) -> None:
        """Return when the next one is due."""


class SimulatedClock:
    """Time passes with actions alone."""

    waits = False

    def __init__(self) -> None:
        self.timing = Timing()

    def start(self) -> None:
        """Nothing to do."""

    def acting(self) -> None:
        """It is never late."""

    def acted(self) -> None:
        """Nothing to note."""

    def tick(self) -> None:
        """Nothing to wait for."""


class WallClock:
    """A tick every ``period`` seconds. One that comes after the next is due is an overrun: what was missed is left out."""

    waits = True

    def __init__(self, period: float) -> None:
        self.period, self.timing = period, Timing()
        self._due = self._acted = 0.0

    def start(self) -> None:
        """The first tick is now."""
        self._due = self._acted = time.monotonic()

    def acting(self) -> None:
        """Note how late that is."""
        self.timing.late.append(time.monotonic() - self._due)

    def acted(self) -> None:
        """Note when: the next one must not follow too soon."""
        self._acted = time.monotonic()

    def tick(self) -> None:
        """Sleep until the next tick is due."""
        self._due = max(self._due + self.period, self._acted + SPACING * self.period)
        time.sleep(max(0.0, self._due - time.monotonic()))
        late = time.monotonic() - self._due
        if late > self.period:
            self.timing.overruns += 1
            self._due += self.period * (late // self.period)  # catching up would be a burst of actions
