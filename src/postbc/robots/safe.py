"""A LeRobot robot that moves only armed, only through the guard, and that ends in its safe state whatever happens."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from postbc.config import GuardConfig, RobotConfig
from postbc.errors import NotArmedError, RobotError
from postbc.robots.arming import Arming
from postbc.robots.devices import make_device
from postbc.robots.guard import Guard, limits_fingerprint
from postbc.robots.workspace import locator

SIMULATED = "postbc_twin"
Raw = dict[str, Any]  # values by LeRobot feature
log = logging.getLogger("postbc")


def make_robot(config: RobotConfig, env: str, options: dict[str, Any]) -> Any:
    """The LeRobot Robot that params.yaml names, not connected; a twin simulates ``env`` with ``options``.

    Raises ConfigError when LeRobot knows no such robot, or the robot other options.
    """
    from lerobot.robots.config import RobotConfig as LeRobotConfig
    from lerobot.robots.utils import make_robot_from_config

    import postbc.robots.config_twin  # noqa: F401 - registers postbc_twin

    given = {**config.options, "env": env, "env_options": dict(options)} if config.type == SIMULATED else config.options
    return make_device("finetune_robot.robot", config.type, LeRobotConfig, make_robot_from_config, given)


class Body(Protocol):
    """What an environment needs of a robot, in this process or in one of its own."""

    simulated: bool
    observation_features: dict[str, Any]  # LeRobot's: name → float for a number, (h, w, C) for an image
    action_features: dict[str, Any]

    def guarded(self, config: GuardConfig, actions: Sequence[str], period: float) -> None:
        """Put these limits before every action, whose numbers are ``actions``, sent every ``period`` seconds."""

    def observe(self) -> Raw:
        """What it says now."""

    def begin(self) -> None:
        """An episode starts: from now on it may move, and is stopped when nobody says anything for too long."""

    def act(self, action: Float[ndarray, "A"]) -> Float[ndarray, "A"]:
        """Send an action, in the robot's units, through the guard; what was sent."""

    def rest(self) -> None:
        """The episode is over: it stays where it is."""

    def place(self, seed: int) -> None:
        """Put a simulated robot's scene into the initial state of ``seed``."""

    def succeeded(self) -> bool:
        """Whether a simulated task is done."""

    def stop(self, reason: str) -> None:
        """The safe state, for good."""


class SafeRobot:
    """``robot`` behind a guard. ``waits`` tells whether time passes by itself; a simulated clock counts actions."""

    def __init__(self, robot: Any, waits: bool) -> None:
        self.robot, self.waits = robot, waits
        self.simulated = bool(getattr(robot, "is_simulated", False))
        self.observation_features = dict(robot.observation_features)
        self.action_features = dict(robot.action_features)
        self.stopped: str | None = None
        self._guard: Guard | None = None
        self._steps = 0
        self._lock = threading.RLock()  # a watchdog may stop it at any time

    def guarded(self, config: GuardConfig, actions: Sequence[str], period: float) -> None:
        """Put limits before it. Raises RobotError or ConfigError for limits that are none."""
        locate = locator(config.workspace, actions) if config.workspace else None
        self._guard, self._limits, self._actions = Guard(config, period, locate), config, list(actions)
        self._positions = set(actions) <= set(self.observation_features)

    def connect(self, armed: Arming | None = None) -> None:
        """Connect. Raises NotArmedError for hardware unless ``armed`` permits these limits, RobotError where not calibrated."""
        if self._guard is None:
            raise RobotError("a robot is connected only behind a guard.")
        if armed is not None and armed.limits != limits_fingerprint(self._limits):
            raise NotArmedError("the permission is for other limits than the guard has.")
        if armed is None and not self.simulated:
            raise NotArmedError("hardware is connected only with a permission.")
        with self._lock:
            try:
                # LeRobot would ask at a terminal, which this process has not, and calibration moves the arm.
                self.robot.connect(calibrate=False)
                if not self.robot.is_calibrated:
                    raise RobotError(
                        f"{self.robot} is not calibrated: run `lerobot-calibrate`, with the same robot id."
                    )
            except BaseException as error:
                self.stop(str(error))
                raise

    def observe(self) -> Raw:
        """What the robot says."""
        with self._running():
            return dict(self.robot.get_observation())

    def begin(self) -> None:
        """Where actions are positions, the first one counts from where the robot is."""
        with self._running() as guard:
            self._steps = 0
            seen = self.robot.get_observation() if self._positions else None
            guard.begin(None if seen is None else np.array([seen[name] for name in self._actions], float))

    def act(self, action: Float[ndarray, "A"]) -> Float[ndarray, "A"]:
        """Raises UnsafeActionError, with the robot stopped, for an action that must not be sent."""
        with self._running() as guard:
            self._steps += 1
            now = time.monotonic() if self.waits else self._steps * guard.period
            try:
                safe = guard.check(np.asarray(action, float), now)
                sent = self.robot.send_action(dict(zip(self._actions, map(float, safe), strict=True)))
            except BaseException as error:
                self.stop(str(error))
                raise
            return np.array([sent[name] for name in self._actions], float)

    def rest(self) -> None:
        """Nothing to do: what was commanded last is kept."""

    def place(self, seed: int) -> None:
        """Only a simulated robot can be placed."""
        self.robot.place(seed)

    def succeeded(self) -> bool:
        """Only a simulated robot knows."""
        return bool(self.robot.succeeded())

    @contextmanager
    def _running(self) -> Iterator[Guard]:
        with self._lock:
            if self.stopped:
                raise RobotError(f"the robot was stopped: {self.stopped}")
            assert self._guard is not None  # noqa: S101 - connect() demands it
            yield self._guard

    def stop(self, reason: str) -> None:
        """Hold or release as the limits say, then disconnect; a second call does nothing. Never raises."""
        with self._lock:
            if self.stopped:
                return
            self.stopped = reason
            if not self.robot.is_connected:
                return
            hold = self._guard is not None and self._limits.on_stop == "hold"
            settings: Any = getattr(self.robot, "config", None)
            if hasattr(settings, "disable_torque_on_disconnect"):
                settings.disable_torque_on_disconnect = not hold
            with suppress(Exception):  # a bus that is gone can not be told to hold
                if hold and self._positions:
                    self._stay()
            try:
                self.robot.disconnect()
            except Exception as error:  # whatever a driver says, there is nothing left to try
                log.error("the robot could not be disconnected properly (%s): use its power switch", error)

    def _stay(self) -> None:
        """Command the present position, so that it does not travel on to the last goal."""
        seen = self.robot.get_observation()
        here = np.array([seen[name] for name in self._actions], float)
        assert self._guard is not None  # noqa: S101 - only called behind one
        if np.isfinite(here).all() and (here >= self._guard.low).all() and (here <= self._guard.high).all():
            self.robot.send_action(dict(zip(self._actions, map(float, here), strict=True)))
