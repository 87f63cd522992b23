"""The operator of a simulated robot: the simulator itself."""

from collections.abc import Mapping
from typing import Any

from postbc.robots.operator.checks import Checks
from postbc.robots.operator.contract import Fact, Operator, Verdict


class ScriptedOperator(Operator):
    """Puts a simulated robot's scene into the state of a seed and reads its success, or that of ``checks``."""

    def __init__(self, robot: Any, checks: Checks | None = None) -> None:
        self.robot, self.checks = robot, checks or Checks()

    def prepare(self, episode: int, seed: int) -> None:
        """Place the scene."""
        self.checks.reset()
        self.robot.place(seed)

    def over(self) -> None:
        """The simulator knows."""

    def verdict(self) -> Verdict | None:
        """What the simulator says."""
        return Verdict.SUCCESS if self.robot.succeeded() or self.checks.held else None

    def stopped(self) -> bool:
        """Never."""
        return False

    def intervening(self) -> bool:
        """Never."""
        return False

    def action(self) -> None:
        """Never."""

    def watch(self, observation: Mapping[str, Any]) -> None:
        """Let the checks look."""
        self.checks.watch(observation)

    def show(self, facts: Mapping[str, Fact]) -> None:
        """Nobody looks."""

    def close(self) -> None:
        """End the checks."""
        self.checks.close()
