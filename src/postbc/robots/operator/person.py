"""A person as the operator: one desk, at which a terminal and a page say the same things."""

import logging
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from postbc.config.robot import OperatorConfig
from postbc.errors import RobotError
from postbc.robots.operator.checks import Checks
from postbc.robots.operator.contract import Fact, Operator, Verdict
from postbc.robots.operator.desk import Desk, Event
from postbc.robots.operator.keyboard import HELP, Keyboard, terminal
from postbc.robots.operator.page import Page
from postbc.robots.operator.teleop import Teleop

_log = logging.getLogger(__name__)


class PersonOperator(Operator):
    """Asks a person, by the terminal if there is one and by a page if ``config`` has one.

    The terminal and the teleoperator are taken at the first :meth:`prepare`; the page serves from the start.

    Args:
        config: instructions, time-outs, port.
        checks: what else tells success; the person's word wins.
        teleop: by which the person takes the arm; None where nobody can.
        stdin: the terminal; default ``sys.stdin``.

    Raises RobotError with neither a terminal nor a page, because there would be nobody to stop the robot.
    """

    def __init__(
        self,
        config: OperatorConfig,
        checks: Checks | None = None,
        teleop: Teleop | None = None,
        stdin: Any = None,
    ) -> None:
        self._fd = terminal(sys.stdin if stdin is None else stdin)
        if self._fd is None and config.page_port is None:
            raise RobotError(
                "A robot needs an operator: run `dvc repro -s finetune_robot@METHOD` in a terminal, "
                "or give the operator a page (finetune_robot.robot.operator.page_port)."
            )
        self.config, self.checks, self.teleop = config, checks or Checks(), teleop
        absent_after = config.absent_after if self._fd is None else None
        self.desk = Desk(config.reset_timeout, absent_after, teleop is not None)
        self._inputs = ExitStack()
        self._inputs.callback(self.checks.close)
        self._taken = False
        if teleop is not None:
            teleop.follow(self.desk.intervening)
        self.page = self._serve(config) if config.page_port is not None else None

    def _serve(self, config: OperatorConfig) -> Page:
        page = Page(self.desk, config.page_port or 0, config.instructions, self.teleop is not None)
        self._inputs.callback(page.close)
        _log.info("operator's page: %s", page.url)
        return page

    def _take(self) -> None:
        """Connect the teleoperator, then listen to the terminal."""
        if self._taken:
            return
        if self.teleop is not None:
            self._inputs.callback(self.teleop.disconnect)
            self.teleop.connect()
        if self._fd is not None:
            self._inputs.callback(Keyboard(self._fd, self.desk.post).close)
        self._taken = True

    def prepare(self, episode: int, seed: int) -> None:
        """Wait for the person to have reset the scene; the seed means nothing to a person.

        Raises StoppedError for a stop, RobotError when it takes longer than ``reset_timeout``; everything is then given back.
        """
        self.checks.reset()
        try:
            self._take()
            self._ask(episode)
            self.desk.prepare(episode)
        except BaseException:
            self._inputs.close()
            raise

    def _ask(self, episode: int) -> None:
        said = [f"Episode {episode}: {self.config.instructions}", f"({self.config.reset_timeout:g} s)"]
        said += [f"Keys: {HELP}."] if self._fd is not None else []
        said += [f"Page: {self.page.url}"] if self.page is not None else []
        _log.info(" ".join(said))

    def over(self) -> None:
        """Say so, and expect nobody to watch."""
        self.desk.over()

    def verdict(self) -> Verdict | None:
        """The person's word, else success when a check says so."""
        return self.desk.verdict() or (Verdict.SUCCESS if self.checks.held else None)

    def stopped(self) -> bool:
        """Whether the person asked to stop, or nobody is left who could."""
        return self.desk.stopped()

    def intervening(self) -> bool:
        """Whether the person has the arm."""
        return self.teleop.intervening() if self.teleop is not None else False

    def action(self) -> Mapping[str, float] | None:
        """What the teleoperator says, while the person has the arm."""
        return self.teleop.action() if self.teleop is not None else None

    def watch(self, observation: Mapping[str, Any]) -> None:
        """Let the checks look."""
        self.checks.watch(observation)

    def show(self, facts: Mapping[str, Fact]) -> None:
        """On the page."""
        self.desk.show(facts)

    def close(self) -> None:
        """Give back terminal, port and teleoperator; a second time does nothing. Nothing starts after it."""
        self.desk.post(Event.STOP, "the session is over")
        self._inputs.close()
