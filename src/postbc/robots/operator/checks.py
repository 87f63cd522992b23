"""Success told by what the robot observes: ranges of features, or a classifier of its camera images.

A check gets the robot's raw observation, as LeRobot's ``get_observation`` returns it. A person's word wins over every check.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from postbc.config import OperatorConfig
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


class Checks:
    """Success once one of ``checks`` has held for ``hold`` observations in a row; it then stays until the next episode."""

    def __init__(self, checks: Sequence[Check] = (), hold: int = 1) -> None:
        self.checks, self.hold = list(checks), hold
        self.reset()

    def reset(self) -> None:
        """An episode begins."""
        self._streaks = [0] * len(self.checks)
        self.held = False

    def watch(self, observation: Mapping[str, Any]) -> None:
        """Look at the observation after one control step."""
        for n, check in enumerate(self.checks):
            self._streaks[n] = self._streaks[n] + 1 if check.check(observation) else 0
        self.held = self.held or any(streak >= self.hold for streak in self._streaks)


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
    chosen: list[Check] = [Ranges(config.success_when)] if config.success_when else []
    if config.reward_classifier is not None:
        from postbc.robots.operator.classifier import RewardClassifier

        chosen.append(RewardClassifier(config.reward_classifier, config.reward_threshold, features))
    return Checks(chosen, config.success_hold)
