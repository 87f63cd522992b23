"""Who resets the scene and says whether the task is done: the twin itself, or a person at the terminal."""

import select
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

from postbc.errors import RobotError


class Verdict(StrEnum):
    """What was said of an episode."""

    SUCCESS = "success"
    FAILURE = "failure"


class Operator(Protocol):
    """What an environment needs from whoever stands beside the robot."""

    def prepare(self, episode: int, seed: int) -> None:
        """Return when the scene is ready for the next episode."""

    def verdict(self) -> Verdict | None:
        """What is said of the running episode; never blocks."""

    def stopped(self) -> bool:
        """Whether the robot is to stop; never blocks."""

    def intervening(self) -> bool:
        """Whether the person has the arm; never blocks."""

    def show(self, facts: Mapping[str, str | float | int]) -> None:
        """What is to be seen; never blocks."""

    def close(self) -> None:
        """Nobody is asked any more; a call of prepare that waits ends."""


class ScriptedOperator:
    """Puts a simulated robot's scene into the state of a seed and reads its success."""

    def __init__(self, robot: Any) -> None:
        self.robot = robot

    def prepare(self, episode: int, seed: int) -> None:
        """Place the scene."""
        self.robot.place(seed)

    def verdict(self) -> Verdict | None:
        """What the simulator says."""
        return Verdict.SUCCESS if self.robot.succeeded() else None

    def stopped(self) -> bool:
        """Never."""
        return False

    def intervening(self) -> bool:
        """Never."""
        return False

    def show(self, facts: Mapping[str, str | float | int]) -> None:
        """Nobody looks."""

    def close(self) -> None:
        """Nothing to do."""


class ConsoleOperator(ScriptedOperator):
    """Asks the person at the terminal: Enter starts an episode, Enter during it means success, q stops everything."""

    def __init__(self) -> None:
        if not sys.stdin.isatty():
            raise RobotError("a robot needs an operator at a terminal; run `python -m stages.finetune_robot` in one.")

    @staticmethod
    def _read() -> None:
        if sys.stdin.readline().strip().lower() == "q":
            raise RobotError("stopped by the operator.")

    def prepare(self, episode: int, seed: int) -> None:
        """Wait for the operator to have reset the scene; the seed means nothing to a person."""
        sys.stderr.write(
            "Reset the scene, then press Enter to start (q: stop). During the episode Enter means success.\n"
        )
        self._read()

    def verdict(self) -> Verdict | None:
        """Success when Enter was pressed since the last call; never blocks."""
        pressed = bool(select.select([sys.stdin], [], [], 0)[0])
        if pressed:
            self._read()
        return Verdict.SUCCESS if pressed else None
