"""A LeRobot robot that moves only armed, only through the guard, and that ends in its safe state whatever happens."""

import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from postbc.config.robot import SIMULATED, RobotConfig
from postbc.errors import ConfigError, NotArmedError, RobotError
from postbc.robots.arming import Arming
from postbc.robots.devices import make_device
from postbc.robots.guard import Guard, limits_fingerprint
from postbc.robots.senses import Senses
from postbc.robots.workspace import locator

# As LeRobot's robots call velocities, and sticks that are held.
SPEEDS = re.compile(r"(^|[._])(vel|velocity|v[xyz]|vtheta|w[xyz]|remote\.[lr][xy])$")
LETS_GO = "disable_torque_on_disconnect"  # LeRobot's setting
PATIENCE = 2  # control periods that a heartbeat lasts at least
LONGEST = 2.0  # seconds that the heartbeat of hardware lasts at most
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
    waits: bool  # whether time passes by itself, or with actions alone
    observation_features: dict[str, Any]  # LeRobot's: name → float for a number, (h, w, C) for an image
    action_features: dict[str, Any]
    holds: bool  # once it is guarded: whether every action is a velocity, or a position that is also measured

    def guarded(self, actions: Sequence[str]) -> None:
        """Put the limits before every action, whose numbers are these ``actions``."""

    def observe(self) -> Raw:
        """What it says now."""

    def begin(self) -> None:
        """An episode starts: from now on it may move, and is stopped when nobody says anything for too long."""

    def act(self, action: Float[ndarray, "A"]) -> Float[ndarray, "A"]:
        """Send an action, in the robot's units, through the guard; what was sent."""

    def rest(self) -> None:
        """The episode is over: it stays where it is, and keeps no velocity."""

    def place(self, seed: int) -> None:
        """Put a simulated robot's scene into the initial state of ``seed``."""

    def succeeded(self) -> bool:
        """Whether a simulated task is done."""

    def stop(self, reason: str) -> object:
        """The safe state, for good."""


def is_velocity(action: str) -> bool:
    """Whether a number that a robot is commanded is a velocity, by its name: what stands still is told zero, not to stay."""
    return SPEEDS.search(action) is not None


def label(config: RobotConfig) -> str:
    """Which robot: its type, and what tells one of a type from another."""
    options = json.dumps(config.options, sort_keys=True, default=str)
    return config.type if config.type == SIMULATED else f"{config.type} {options}"


class SafeRobot:
    """``robot`` behind the guard of ``config``, at ``fps`` actions a second.

    Raises ConfigError where something that is no simulation is to keep another clock than the wall's.
    """

    def __init__(self, robot: Any, config: RobotConfig, fps: float) -> None:
        self.robot, self.config, self.fps = robot, config, fps
        self.simulated = getattr(robot, "is_simulated", False) is True  # a plugin may have a method of that name
        if config.clock == "simulated" and not self.simulated:
            raise ConfigError(f"finetune_robot.robot.clock = simulated: {config.type} moves in real time.")
        self.waits = config.clock == "wall" or not self.simulated
        if self.waits and config.guard.heartbeat < PATIENCE / fps:
            raise ConfigError(
                f"finetune_robot.robot.guard.heartbeat = {config.guard.heartbeat:g} s is less than {PATIENCE} control periods."
            )
        if not self.simulated and config.guard.heartbeat > LONGEST:
            raise ConfigError(
                f"finetune_robot.robot.guard.heartbeat = {config.guard.heartbeat:g} s; at most {LONGEST:g} s for hardware."
            )
        self.observation_features = dict(robot.observation_features)
        self.action_features = dict(robot.action_features)
        self.stopped: str | None = None
        self._guard: Guard | None = None
        self._connecting = self._connected = False
        self._steps = 0
        self._where: ndarray | None = None  # what would hold it where it was last seen
        self._told: ndarray | None = None  # the last action of an episode
        self._moving = False  # whether an episode runs
        self._lock = threading.RLock()  # a watchdog may stop it at any time

    def guarded(self, actions: Sequence[str]) -> None:
        """Put the limits before it. Raises RobotError or ConfigError for limits that are none."""
        guard = self.config.guard
        if self._connecting:
            raise RobotError("the limits of a robot that was connected can not be changed.")
        for name in ("low", "high", "max_step", "max_speed", "max_lead"):
            found = getattr(guard, name)
            if found is not None and len(found) != len(actions):
                raise ConfigError(
                    f"finetune_robot.robot.guard.{name} has {len(found)} numbers for the actions {', '.join(actions)}."
                )
        if not self.simulated and guard.max_step is None and guard.max_speed is None:
            raise ConfigError(
                "finetune_robot.robot.guard needs max_speed or max_step: without, one action may cross the whole range."
            )
        locate = locator(guard.workspace, actions) if guard.workspace else None
        self._guard, self._actions = Guard(guard, 1 / self.fps, locate), list(actions)
        self._speeds = np.array([is_velocity(name) for name in actions])
        self._measured = self._speeds | [name in self.observation_features for name in actions]
        self.holds = bool(self._measured.all())
        if not (self.holds or self.simulated):
            unknown = ", ".join(name for name, known in zip(actions, self._measured, strict=True) if not known)
            log.warning(
                "%s: not measured, so that nothing limits the first action of a session but low and high", unknown
            )
        self._senses = Senses(guard, list(actions), self._speeds, (self._guard.max_step, 1 / self.fps))
        if guard.on_stop == "hold" and not (self.simulated or self._speeds.all() or self._settings()):
            log.warning("%s has no %s: if its driver lets go, on_stop: hold can not keep it", self.config.type, LETS_GO)
        if (self._speeds & ((self._guard.low > 0) | (self._guard.high < 0))).any():
            raise ConfigError("finetune_robot.robot.guard leaves a velocity no zero: it could not be stopped.")

    def connect(self, armed: Arming | None = None) -> None:
        """Connect. Raises NotArmedError for hardware unless ``armed`` permits these limits, RobotError where not calibrated."""
        if self._guard is None:
            raise RobotError("a robot is connected only behind a guard.")
        if armed is not None and armed.limits != limits_fingerprint(self.config, self.fps):
            raise NotArmedError("the permission is for other limits than the guard has.")
        if armed is None and not self.simulated:
            raise NotArmedError("hardware is connected only with a permission.")
        with self._lock:
            if self.stopped or self._connecting:
                raise RobotError(f"a robot is connected once: {self.stopped or 'it is connected'}.")
            self._connecting = True
            try:
                # LeRobot would ask at a terminal, which this process has not, and calibration moves the arm.
                self.robot.connect(calibrate=False)
                if not self.robot.is_calibrated:
                    raise RobotError(
                        f"{self.robot} is not calibrated: run `lerobot-calibrate` with the same --robot.type, port and id, and "
                        f"--robot.calibration_dir={self.robot.calibration_dir}."
                    )
                self._connected = True
            except BaseException as error:
                self.stop(str(error))
                raise

    def observe(self) -> Raw:
        """What the robot says."""
        with self._running():
            seen = self._look()
            if self._moving:
                try:
                    images = {
                        name: seen[name] for name, kind in self.observation_features.items() if isinstance(kind, tuple)
                    }
                    self._senses.check(self._told, self._still(seen), images)
                except RobotError as error:
                    self.stop(str(error))
                    raise
            return seen

    def _look(self) -> Raw:
        # LeRobot's drivers may say more than they declare.
        seen = {k: v for k, v in self.robot.get_observation().items() if k in self.observation_features}
        if self.holds:
            here = self._still(seen)
            self._where = here if np.isfinite(here).all() else self._where
        return seen

    def _still(self, seen: Raw) -> Float[ndarray, "A"]:
        """The action that keeps it as it is seen, NaN where that is not measured."""
        pairs = zip(self._actions, self._speeds, strict=True)
        return np.array([0.0 if moves else seen.get(name, np.nan) for name, moves in pairs], float)

    def begin(self) -> None:
        """The first action counts from where the robot is, and stands, where that is measured."""
        with self._running() as guard:
            self._steps, self._told = 0, None
            guard.begin(self._still(self._look()), self._measured)
            self._senses.begin()
            self._moving = True

    def act(self, action: Float[ndarray, "A"]) -> Float[ndarray, "A"]:
        """Raises UnsafeActionError, with the robot stopped, for an action that must not be sent."""
        with self._running() as guard:
            self._steps += 1
            now = time.monotonic() if self.waits else self._steps * guard.period
            try:
                safe = self._told = guard.check(np.asarray(action, float), now)
                sent = self._send(safe)
            except BaseException as error:
                self.stop(str(error))
                raise
            return np.array([sent[name] for name in self._actions], float)

    def rest(self) -> None:
        """What was commanded last is kept; velocities are not."""
        with self._running():
            self._moving = False
            if self._told is not None and self._speeds.any():
                try:
                    self._send(np.where(self._speeds, 0.0, self._told))
                except BaseException as error:
                    self.stop(str(error))
                    raise

    def _send(self, action: Float[ndarray, "A"]) -> Raw:
        return dict(self.robot.send_action(dict(zip(self._actions, map(float, action), strict=True))))

    def place(self, seed: int) -> None:
        """Only a simulated robot can be placed."""
        if self._guard is not None:
            self._guard.forget()
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

    def stop(self, reason: str, within: float = -1) -> bool:
        """Hold or release as the limits say, then disconnect; a second call does nothing. Never raises.

        False where another thread would not let go of the robot ``within`` so many seconds (-1: for ever).
        """
        if not self._lock.acquire(timeout=within):
            return False
        try:
            if self.stopped is None:
                self.stopped = reason
                if self._connecting:  # whatever is_connected says: a bus may be open beside a camera that is not
                    self._to_safety()
        finally:
            self._lock.release()
        return True

    def _to_safety(self) -> None:
        hold = self.config.guard.on_stop == "hold"
        try:
            for settings in self._settings():
                with suppress(AttributeError):  # a plugin's settings may be frozen
                    setattr(settings, LETS_GO, not hold)
            # Wheels do not stop for being let go. What is not known to be calibrated is told nothing.
            if self._connected and (hold or self._speeds.any()):
                self._stay()
        except Exception as error:  # a bus that is gone can not be told to hold
            log.error("the robot could not be told to stay where it is: %s", error)
        finally:
            self._disconnect(hold)

    def _parts(self) -> list[Any]:
        """The robot, and of one with two arms each of them."""
        arms = (getattr(self.robot, name, None) for name in ("left_arm", "right_arm"))
        return [self.robot, *(arm for arm in arms if arm is not None)]

    def _settings(self) -> list[Any]:
        """Of all that has motors, where LeRobot's driver asks whether to let go of them."""
        settings = (getattr(part, "config", None) for part in self._parts())
        return [one for one in settings if hasattr(one, LETS_GO)]

    def _stay(self) -> None:
        """Command the present position, or the last that was read, and no velocity, so that it does not move on."""
        if self.holds:
            with suppress(Exception):  # a camera may be lost, and the arm be well
                self._look()
        here = np.zeros(len(self._actions)) if self._speeds.all() else self._where
        assert self._guard is not None  # noqa: S101 - only called behind one
        if not self.holds or here is None:
            unfit = "these actions can not hold a robot"
        elif (here < self._guard.low).any() or (here > self._guard.high).any():
            unfit = "the robot is outside of its limits and is not told to stay there"
        else:
            self._send(here)
            return
        if not self.simulated:
            log.warning("%s: it keeps its last command, but for velocities, until it is disconnected", unfit)
        if self._told is not None and self._speeds.any():
            self._send(np.where(self._speeds, 0.0, self._told))

    def _disconnect(self, hold: bool) -> None:
        try:
            self.robot.disconnect()
        except (
            Exception
        ) as error:  # LeRobot's drivers refuse where a part is not connected, and leave the rest as it is
            for part in self._parts()[1:] or [self.robot]:
                try:
                    if getattr(part.bus, "is_connected", True):
                        part.bus.disconnect(not hold or bool(self._speeds.any()))  # wheels would drive on
                except Exception:  # there is nothing left to try
                    log.error("%s could not be disconnected (%s): use its power switch", part, error)
