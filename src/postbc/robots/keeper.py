"""The process that holds the robot: its guard, and a watchdog over the control loop that it serves.

Only this process can reach the motors. It connects with an arming token that it uses up itself, sends nothing that the guard
refuses, and brings the robot into its safe state when the control process asks for it, dies, closes the pipe, or, during an
episode, says nothing for as long as `guard.heartbeat`; likewise when it is asked to end, or a driver fails.
"""

import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from postbc.config.robot import GuardConfig, OperatorConfig, RobotConfig, WorkspaceConfig
from postbc.errors import NotArmedError, PostbcError, RobotError
from postbc.processes import receive, send, served
from postbc.robots import arming
from postbc.robots.clock import now
from postbc.robots.lock import close_to_others, hold_device
from postbc.robots.safe import SafeRobot, label, make_robot

STUCK = 1.0  # seconds for which a call of the driver may keep the robot from being stopped before the process ends without it
ENDING = (
    30.0  # the same, where the process was asked to end: a driver may be connecting, which is not to be left half done
)
log = logging.getLogger("postbc")


def robot_of(content: dict[str, Any]) -> RobotConfig:
    """A robot's configuration from its JSON, without its operator, who is not here."""
    box = content["guard"]["workspace"]
    guard = GuardConfig(**{**content["guard"], "workspace": WorkspaceConfig(**box) if box else None})
    return RobotConfig(**{**content, "guard": guard, "operator": OperatorConfig()})


class Watchdog:
    """Stops ``robot`` when it was awake and heard nothing for ``patience`` seconds."""

    def __init__(self, robot: SafeRobot, patience: float) -> None:
        self.robot, self.patience, self._deadline = robot, patience, float("inf")
        if patience < float("inf"):
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def pat(self) -> None:
        """The control loop is alive, and the robot may be moving; a word that comes too late stops it as none would."""
        if now() > self._deadline:
            self._stop()
        self._deadline = now() + self.patience

    def rest(self) -> None:
        """The robot does not move: nobody has to say anything."""
        self._deadline = float("inf")

    def _watch(self) -> None:
        while not self.robot.stopped:
            time.sleep(self.patience / 10)
            if now() > self._deadline:
                self._stop()

    def _stop(self) -> None:
        why = f"nothing was heard from the control loop for {self.patience:g} s"
        if not self.robot.stop(why, within=STUCK):
            log.error("the driver hangs, so that the robot can not be told anything: use its power switch")
            os._exit(1)


def permission(robot: SafeRobot, wanted: arming.Request, folder: Path) -> arming.Arming:
    """Use up an arming token; a simulated robot issues its own where it may. Raises NotArmedError otherwise."""
    try:
        return arming.consume(folder, wanted)
    except NotArmedError:
        if robot.config.arm != "simulated" or not robot.simulated:
            raise
    arming.issue(folder, wanted, operator="simulated")
    return arming.consume(folder, wanted)


class Keeper:
    """Serves one control process: a method a request, by name."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.robot: SafeRobot | None = None
        self._moving = False

    def serve(self) -> None:
        """Answer until the pipe closes; the robot is stopped then, however that came about."""
        try:
            while True:
                self._answer(*receive(self.pipe))
        finally:
            if self.robot:
                self.robot.stop("the control process is gone")

    def end(self, requests: int) -> None:
        """Wait for a request to end this process; stop the robot, and end it, whatever another thread is doing."""
        os.read(requests, 1)
        try:
            if self.robot and not self.robot.stop("the process that holds the robot was ended", within=ENDING):
                log.error("the driver hangs, so that the robot can not be told anything: use its power switch")
        finally:
            os._exit(128 + signal.SIGTERM)

    def _answer(self, request: list[Any], arrays: dict[str, np.ndarray]) -> None:
        name, *arguments = request
        try:
            value = getattr(self, f"do_{name}")(*arguments, **arrays)
        except Exception as error:  # a driver's errors have many classes
            if self.robot and name != "connect":
                self.robot.stop(f"{type(error).__name__}: {error}")
            own = isinstance(error, PostbcError)
            said = str(error) if own else f"{type(error).__name__}: {error}"
            send(self.pipe, {"error": [type(error).__name__ if own else RobotError.__name__, said]})
            return
        images = {k: v for k, v in value.items() if isinstance(v, np.ndarray)} if isinstance(value, dict) else {}
        numbers = {k: v for k, v in value.items() if k not in images} if isinstance(value, dict) else value
        send(self.pipe, {"value": numbers}, images)

    def _awake(self) -> SafeRobot:
        assert self.robot is not None  # noqa: S101 - make comes first
        if self._moving:
            self._watchdog.pat()
        return self.robot

    def do_make(self, config: dict[str, Any], env: str, options: dict[str, Any], fps: float) -> dict[str, Any]:
        """Build the robot, unconnected; what it can observe and do."""
        if self.robot:
            raise RobotError("this process holds a robot already.")
        made = robot_of(config)
        robot = SafeRobot(make_robot(made, env, options), made, fps)
        self._locks = [] if robot.simulated else hold_device(made.type, asdict(robot.robot.config))
        # Where time stands still between actions nobody can be late.
        self._watchdog = Watchdog(robot, made.guard.heartbeat if robot.waits else float("inf"))
        self.robot = robot
        images = {n: kind for n, kind in robot.observation_features.items() if isinstance(kind, tuple)}
        numbers = [name for name in robot.observation_features if name not in images]
        said = {"numbers": numbers, "images": images, "actions": list(robot.action_features)}
        return {"simulated": robot.simulated, "waits": robot.waits, **said}

    def do_guarded(self, actions: list[str]) -> bool:
        """Set the limits; whether actions are positions or velocities."""
        robot = self._awake()
        robot.guarded(actions)
        return robot.holds

    def do_connect(self, wanted: dict[str, str], folder: str) -> dict[str, Any]:
        """Use up a permission, and connect."""
        robot = self._awake()
        if wanted["robot"] != label(robot.config):
            raise NotArmedError(f"the permission is for {wanted['robot']}, this is {label(robot.config)}.")
        armed = permission(robot, arming.Request(**wanted), Path(folder))
        robot.connect(armed)
        if not robot.simulated:
            self._locks += close_to_others(robot.config.type, asdict(robot.robot.config))
        return asdict(armed)

    def do_observe(self) -> dict[str, Any]:
        """Numbers and images by feature."""
        seen = self._awake().observe().items()
        return {k: np.asarray(v) if np.ndim(v) else float(v) for k, v in seen}

    def do_begin(self) -> None:
        """An episode starts."""
        self._awake().begin()
        self._moving = True
        self._watchdog.pat()

    def do_act(self, action: np.ndarray) -> list[float]:
        """Send an action; only during an episode."""
        if not self._moving:
            raise RobotError("an action came outside of an episode.")
        sent: list[float] = self._awake().act(action).tolist()
        return sent

    def do_rest(self) -> None:
        """The episode is over."""
        self._awake().rest()
        self._moving = False
        self._watchdog.rest()

    def do_place(self, seed: int) -> None:
        """A simulated scene."""
        self._awake().place(seed)

    def do_succeeded(self) -> bool:
        """A simulated task."""
        return self._awake().succeeded()

    def do_stop(self, reason: str) -> None:
        """The safe state."""
        self._awake().stop(reason)


def serve(pipe: Connection) -> None:
    """Hold a robot for whoever has the other end of ``pipe``."""
    keeper = Keeper(pipe)
    # A thread ends the process: an exception out of a signal's handler would break off a stop that had just begun.
    requests, request = os.pipe()
    os.set_blocking(request, False)
    signal.set_wakeup_fd(request)
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=keeper.end, args=(requests,), name="end", daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="robot: %(message)s", stream=sys.stderr)
    keeper.serve()


if __name__ == "__main__":
    served(serve)
