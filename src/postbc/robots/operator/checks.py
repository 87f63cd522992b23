"""Success told by what the robot observes: ranges of features, or a classifier of its camera images.

A check gets the robot's raw observation, as LeRobot's ``get_observation`` returns it. A person's word wins over every check.
"""

import math
from collections.abc import Mapping, Sequence
from threading import Condition, Thread
from typing import Any, Protocol

from postbc.config.robot import OperatorConfig
from postbc.errors import ConfigError, RobotError


class Check(Protocol):
    """Tells from one observation whether the task is done."""

    def check(self, observation: Mapping[str, Any]) -> bool:
        """Whether it is done now."""


class Ranges:
    """The task is done while every feature of ``ranges`` lies in its [low, high], both included; None leaves a side open.

    Raises RobotError for an observation that lacks a feature. A value that is not a number is in no range.
    """

    def __init__(self, ranges: Mapping[str, Sequence[float | None]]) -> None:
        self.ranges = {
            name: (-math.inf if low is None else low, math.inf if high is None else high)
            for name, (low, high) in ranges.items()
        }

    def check(self, observation: Mapping[str, Any]) -> bool:
        """Whether all features are in range."""
        missing = [name for name in self.ranges if name not in observation]
        if missing:
            raise RobotError(
                f"success_when asks for {', '.join(missing)}; the robot observed {', '.join(observation)}."
            )
        return all(low <= float(observation[name]) <= high for name, (low, high) in self.ranges.items())


class Streak:
    """Success once ``check`` has held for ``hold`` observations in a row; it then stays until the next episode."""

    def __init__(self, check: Check, hold: int) -> None:
        self.check, self.hold = check, hold
        self._length = 0
        self.held = False

    def reset(self) -> None:
        """An episode begins."""
        self._length, self.held = 0, False

    def watch(self, observation: Mapping[str, Any]) -> None:
        """Look at one observation."""
        self._length = self._length + 1 if self.check.check(observation) else 0
        self.held = self.held or self._length >= self.hold

    def close(self) -> None:
        """Nothing to end."""


class BackgroundStreak(Streak):
    """A check that takes longer than a control step: a thread looks at the newest observation and misses those in between."""

    def __init__(self, check: Check, hold: int) -> None:
        super().__init__(check, hold)
        self._changed = Condition()
        self._next: Mapping[str, Any] | None = None
        self._episode, self._closed = 0, False
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="operator-check", daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """An episode begins; what is being looked at belongs to the last one."""
        with self._changed:
            super().reset()
            self._next, self._episode = None, self._episode + 1

    def watch(self, observation: Mapping[str, Any]) -> None:
        """Hand one observation over. Raises what the check raised."""
        with self._changed:
            if self._error is not None:
                raise self._error
            self._next = observation
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next is not None)
                observation, self._next, episode = self._next, None, self._episode
            if self._closed or observation is None:
                return
            try:
                done = self.check.check(observation)
            except Exception as error:  # raised where the robot can be stopped for it
                self._error = error
                return
            with self._changed:
                if episode == self._episode:
                    self._length = self._length + 1 if done else 0
                    self.held = self.held or self._length >= self.hold

    def close(self) -> None:
        """End the thread, after the look that it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()


class Checks:
    """Success as soon as one of several checks has held for ``hold`` observations in a row.

    Args:
        checks: that take no time.
        hold: observations.
        slow: checks that would hold up the control loop, each looked after by a thread.
    """

    def __init__(self, checks: Sequence[Check] = (), hold: int = 1, slow: Sequence[Check] = ()) -> None:
        self.parts = [Streak(check, hold) for check in checks] + [BackgroundStreak(check, hold) for check in slow]

    @property
    def held(self) -> bool:
        """Whether one of them says success."""
        return any(part.held for part in self.parts)

    def reset(self) -> None:
        """An episode begins."""
        for part in self.parts:
            part.reset()

    def watch(self, observation: Mapping[str, Any]) -> None:
        """Look at the observation after one control step."""
        for part in self.parts:
            part.watch(observation)

    def close(self) -> None:
        """End the threads."""
        for part in self.parts:
            part.close()


def make_checks(config: OperatorConfig, features: Mapping[str, Any]) -> Checks:
    """The checks that params.yaml asks for, of a robot that observes ``features``.

    Raises ConfigError for a feature that the robot lacks or that is no number, and for a classifier that can not be used.
    """
    strange = [name for name in config.success_when if features.get(name) not in (float, int)]
    if strange:
        numbers = [name for name, kind in features.items() if kind in (float, int)]
        raise ConfigError(
            f"finetune_robot.robot.operator.success_when names {', '.join(strange)}; "
            f"the numbers that the robot observes are {', '.join(numbers)}."
        )
    ranges = [Ranges(config.success_when)] if config.success_when else []
    if config.reward_classifier is None:
        return Checks(ranges, config.success_hold)
    from postbc.robots.operator.classifier import RewardClassifier

    classifier = RewardClassifier(config.reward_classifier, config.reward_threshold, features)
    return Checks(ranges, config.success_hold, [classifier])
