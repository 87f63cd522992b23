"""What every action passes before a robot does: finite → shape → limits → workspace → step and speed → rate. Never optional.

A non-finite or out-of-limit action is refused, not clipped: LeRobot's own clamp lets NaN through, and on some motors it
becomes an end stop. Only the change from one action to the next is limited by clipping; the first one of an episode counts
from where the robot is, or, where that is not measured, from what was commanded last.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from postbc.config.robot import SIMULATED, GuardConfig, RobotConfig
from postbc.errors import RobotError, UnsafeActionError
from postbc.robots.devices import calibration

# float32 policies reach their own limits only up to rounding; this share of the range is granted, then cut off.
ROUNDING = 1e-5
ON_TIME = 0.999  # share of the control period, from which on an action has all of it: clocks round
SOONEST = 0.5  # share of the control period that lies between two actions at least

Locate = Callable[[Float[ndarray, "A"]], Float[ndarray, "3"]]  # where the guarded point is under an action, metres


class Guard:
    """Limits (A,) in the robot's action units; no limits, no motion.

    ``period`` is that of control, in seconds; ``locate`` is needed where the limits have a workspace. Raises RobotError when
    limits are missing or do not match.
    """

    def __init__(self, config: GuardConfig, period: float, locate: Locate | None = None) -> None:
        if config.low is None or config.high is None:
            raise RobotError(
                "finetune_robot.robot.guard has no limits (low and high, one number an action dimension); "
                "without limits nothing moves. Set them in params.yaml."
            )
        self.low, self.high = np.asarray(config.low, float), np.asarray(config.high, float)
        everything = self.high - self.low if len(self.low) == len(self.high) else np.empty(0)
        step = everything if config.max_step is None else np.asarray(config.max_step, float)
        speed = None if config.max_speed is None else np.asarray(config.max_speed, float)
        steps = step, step if speed is None else period * speed
        same = self.low.ndim == 1 and len(self.low) == len(self.high) == len(steps[0]) == len(steps[1])
        limits = np.stack([self.low, self.high, *steps]) if same else np.array([[np.nan]])
        if not np.isfinite(limits).all() or (self.low >= self.high).any() or (np.stack(steps) <= 0).any():
            raise RobotError(
                f"finetune_robot.robot.guard is impossible: {config}. low < high, max_step > 0, max_speed > 0, same length."
            )
        if (config.workspace is None) != (locate is None):
            raise RobotError("finetune_robot.robot.guard.workspace and the arm's model belong together.")
        self.max_step: ndarray = np.minimum(*steps)
        self.period, self.workspace, self._locate = period, config.workspace, locate
        self._step, self._speed = step, speed
        self._when = -np.inf
        self._last: ndarray = np.full_like(self.low, np.nan)  # NaN: not known

    def begin(self, present: Float[ndarray, "A"], measured: Bool[ndarray, "A"] | None = None) -> None:
        """An episode starts from ``present``, where that is ``measured`` (None: everywhere).

        Raises UnsafeActionError where that is outside.
        """
        measured = np.ones(self.low.shape, bool) if measured is None else measured
        self._when = -np.inf
        if not np.isfinite(present[measured]).all():
            raise UnsafeActionError(f"the robot says that it is at {present}: not finite; it was stopped.")
        beyond = np.where(measured, np.abs(present - np.clip(present, self.low, self.high)), 0.0)
        if (beyond > self.max_step).any():
            where = int(np.argmax(beyond))
            raise UnsafeActionError(
                f"the robot starts outside of its limits: feature {where} is at {present[where]:.6g}, the limits are "
                f"[{self.low[where]:.6g}, {self.high[where]:.6g}]. Bring it inside by hand."
            )
        self._last = np.where(measured, present, self._last)

    def forget(self) -> None:
        """It was put elsewhere: where it is now is not known."""
        self._last = np.full_like(self.low, np.nan)

    def check(self, action: Float[ndarray, "A"], now: float) -> Float[ndarray, "A"]:
        """The action to send at ``now``, in seconds. Raises UnsafeActionError for one that must not be sent in any form."""
        if not np.isfinite(action).all():
            raise UnsafeActionError(f"action {action} is not finite; the robot was stopped.")
        if np.shape(action) != self.low.shape:
            raise UnsafeActionError(f"action has shape {np.shape(action)}, the robot takes {self.low.shape}.")
        slack = ROUNDING * (self.high - self.low)
        outside = (action < self.low - slack) | (action > self.high + slack)
        if outside.any():
            where = int(np.argmax(outside))
            raise UnsafeActionError(
                f"action[{where}] = {action[where]:.6g} is outside [{self.low[where]:.6g}, {self.high[where]:.6g}]."
            )
        safe = np.clip(action, self.low, self.high)
        self._require_inside(safe)
        step, last = self._largest_step(now - self._when), np.where(np.isnan(self._last), safe, self._last)
        # Back inside the limits: an arm may begin a step outside of them, and never farther.
        slower = np.clip(np.clip(safe, last - step, last + step), self.low, self.high)
        if not np.array_equal(slower, safe):
            self._require_inside(slower)  # a box of poses is none of joints: halfway may lie outside
        safe = slower
        if now - self._when < SOONEST * self.period:
            apart, period = 1e3 * (now - self._when), 1e3 * self.period
            raise UnsafeActionError(
                f"an action {apart:.1f} ms after the last one; the control period is {period:.1f} ms."
            )
        self._last, self._when = safe, now
        return safe

    def _largest_step(self, since: float) -> Float[ndarray, "A"]:
        """What an action may change ``since`` seconds after the last one: speed is a second's, not a step's."""
        if self._speed is None or since >= ON_TIME * self.period:
            return self.max_step
        allowed: ndarray = np.minimum(self._step, self._speed * max(since, 0.0))
        return allowed

    def _require_inside(self, action: Float[ndarray, "A"]) -> None:
        if self.workspace is None or self._locate is None:
            return
        point = self._locate(action)
        if (point < self.workspace.low).any() or (point > self.workspace.high).any():
            raise UnsafeActionError(
                f"the action brings {self.workspace.site} to {np.round(point, 3)} m, outside of the workspace "
                f"{self.workspace.low} to {self.workspace.high}."
            )


def limits_fingerprint(config: RobotConfig, fps: float) -> str:
    """Hex sha256 of what bounds the motion, which an arming token names: limits, clock, rate, and what the numbers mean.

    A calibration is read from its file, as it is now.
    """
    parts = [asdict(config.guard), config.clock, float(fps), config.state, config.environment_state, config.action]
    if config.type != SIMULATED:  # another calibration makes other places of the same numbers
        parts.append(calibration("robots", config.type, config.options))
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
