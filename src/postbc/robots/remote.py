"""A robot in a process of its own (:mod:`postbc.robots.keeper`), as this one sees it."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from postbc import errors
from postbc.config import TaskConfig
from postbc.config.robot import RobotConfig
from postbc.errors import RobotError
from postbc.processes import GRACE, Child, receive, send
from postbc.robots import arming
from postbc.robots.keeper import ENDING
from postbc.robots.safe import Raw

KEEPER = "postbc.robots.keeper"
STARTING = 180.0  # seconds in which the process starts, imports a driver and connects
ANSWERING = 5.0  # seconds for anything else; a simulated scene may take that long to be placed


class RemoteRobot:
    """The robot of ``config``, made in a process of its own, not connected. Raises what making it raised there."""

    def __init__(self, config: RobotConfig, task: TaskConfig, start: Callable[[str], Child] = Child) -> None:
        self.child, self.stopped = start(KEEPER), False
        self.child.ending = ENDING + GRACE  # it brings the robot into its safe state first
        self._asking = threading.Lock()  # the control thread asks, and whoever ends the session
        try:
            made = self._ask("make", asdict(config), task.env, dict(task.options), task.fps, patience=STARTING)
        except BaseException:
            self.child.close()
            raise
        self.simulated, self.waits, self.action_features = (
            bool(made["simulated"]),
            bool(made["waits"]),
            dict.fromkeys(made["actions"], float),
        )
        images = {name: tuple(shape) for name, shape in made["images"].items()}
        self.observation_features: dict[str, Any] = dict.fromkeys(made["numbers"], float) | images

    def _ask(self, name: str, *arguments: Any, patience: float = ANSWERING, **arrays: np.ndarray) -> Any:
        """What the process answers. Raises the error that it names; RobotError, with the process ended, when it does not."""
        try:
            with self._asking:
                send(self.child.pipe, [name, *arguments], arrays)
                if not self.child.pipe.poll(patience):
                    raise TimeoutError(f"did not answer within {patience:g} s")
                answer, images = receive(self.child.pipe)
        except (EOFError, OSError) as error:
            self._lost()
            why = str(error) or "ended"
            raise RobotError(
                f"the process that holds the robot is gone ({why}); the robot is not commanded."
            ) from error
        if "error" in answer:
            kind, said = answer["error"]
            raise getattr(errors, kind, RobotError)(said)
        return {**answer["value"], **images} if images else answer["value"]

    def _lost(self) -> None:
        self.stopped = True
        self.child.close()

    def guarded(self, actions: Sequence[str]) -> None:
        """Put the limits before it."""
        self.holds = bool(self._ask("guarded", list(actions)))

    def connect(self, wanted: arming.Request, folder: Path) -> arming.Arming:
        """Connect with a permission from ``folder``; raises NotArmedError without one."""
        found = self._ask("connect", asdict(wanted), str(folder.resolve()), patience=STARTING)
        return arming.Arming(**found)

    def observe(self) -> Raw:
        """What the robot says."""
        return dict(self._ask("observe"))

    def begin(self) -> None:
        """An episode starts."""
        self._ask("begin")

    def act(self, action: Float[ndarray, "A"]) -> Float[ndarray, "A"]:
        """Send an action through the guard; what was sent."""
        return np.array(self._ask("act", action=np.asarray(action, float)), float)

    def rest(self) -> None:
        """The episode is over."""
        self._ask("rest")

    def place(self, seed: int) -> None:
        """A simulated scene."""
        self._ask("place", seed, patience=STARTING)

    def succeeded(self) -> bool:
        """A simulated task."""
        return bool(self._ask("succeeded"))

    def stop(self, reason: str) -> None:
        """The safe state, and the end of the process. Never raises."""
        if self.stopped:
            return
        with suppress(errors.PostbcError):
            self._ask("stop", reason)
        self.stopped = True
        self.child.close()
