"""What the control loop needs from whoever stands beside the robot."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

Fact = str | float | int


class Verdict(StrEnum):
    """How an episode ended."""

    SUCCESS = "success"
    FAILURE = "failure"


class Operator(Protocol):
    """A person or a simulator. Everything but ``prepare`` returns at once: the control loop calls it at its own rate."""

    def prepare(self, episode: int, seed: int) -> None:
        """Return when the scene is reset and the episode may start.

        Raises StoppedError when the operator asks to stop, RobotError when nobody says that the scene is reset.
        """

    def over(self) -> None:
        """The episode has ended: what is said from now on is not about it."""

    def verdict(self) -> Verdict | None:
        """What was said of the running episode since :meth:`prepare`."""

    def stopped(self) -> bool:
        """Whether stop was asked; it stays so."""

    def intervening(self) -> bool:
        """Whether the person has the arm now."""

    def action(self) -> Mapping[str, float] | None:
        """What the person commands, by the robot's features and in its units; None while the policy has the arm."""

    def watch(self, observation: Mapping[str, Any]) -> None:
        """Take note of the robot's raw observation after a step, by which checks tell success."""

    def show(self, facts: Mapping[str, Fact]) -> None:
        """What is to be seen: a name with a unit at its end (``jitter_ms``), a number or a text."""

    def close(self) -> None:
        """Give back terminal, port and teleoperator; a :meth:`prepare` that waits in another thread ends."""
