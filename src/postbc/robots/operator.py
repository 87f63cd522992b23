"""Who resets the scene and says whether the task is done: the twin itself, or a person at the terminal."""

import select
import sys
from typing import Any, Protocol

from postbc.errors import RobotError


class Operator(Protocol):
    """What an environment needs from whoever stands beside the robot."""

    def reset(self, seed: int) -> None:
        """Return when the scene is ready for the next episode."""

    def succeeded(self) -> bool:
        """Whether the task is done now."""


class ScriptedOperator:
    """Puts a simulated robot's scene into the state of a seed and reads its success."""

    def __init__(self, robot: Any) -> None:
        self.robot = robot

    def reset(self, seed: int) -> None:
        """Place the scene."""
        self.robot.place(seed)

    def succeeded(self) -> bool:
        """What the simulator says."""
        return bool(self.robot.succeeded())


class ConsoleOperator:
    """Asks the person at the terminal: Enter starts an episode, Enter during it means success, q stops everything."""

    def __init__(self) -> None:
        if not sys.stdin.isatty():
            raise RobotError("a robot needs an operator at a terminal; run `python -m stages.finetune_robot` in one.")

    @staticmethod
    def _read() -> None:
        if sys.stdin.readline().strip().lower() == "q":
            raise RobotError("stopped by the operator.")

    def reset(self, seed: int) -> None:
        """Wait for the operator to have reset the scene; the seed means nothing to a person."""
        sys.stderr.write(
            "Reset the scene, then press Enter to start (q: stop). During the episode Enter means success.\n"
        )
        self._read()

    def succeeded(self) -> bool:
        """True when Enter was pressed since the last call; never blocks."""
        pressed = bool(select.select([sys.stdin], [], [], 0)[0])
        if pressed:
            self._read()
        return pressed
