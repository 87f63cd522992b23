"""What every action passes before a robot does: finite → shape → limits → largest step. On by default, never optional.

A non-finite or out-of-limit action is refused, not clipped: LeRobot's own clamp lets NaN through, and on some motors it
becomes an end stop. Only the change from one action to the next is limited by clipping.
"""

import json
from dataclasses import asdict
from hashlib import sha256

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from postbc.config import GuardConfig
from postbc.errors import RobotError, UnsafeActionError

# float32 policies reach their own limits only up to rounding; this share of the range is granted, then cut off.
ROUNDING = 1e-5


class Guard:
    """Limits (A,) in the robot's action units; no limits, no motion.

    Raises RobotError when lower or upper limits are missing or do not match.
    """

    def __init__(self, config: GuardConfig) -> None:
        if config.low is None or config.high is None:
            raise RobotError(
                "finetune_robot.robot.guard has no limits (low and high, one number an action dimension); "
                "without limits nothing moves. Set them in params.yaml."
            )
        self.low, self.high = np.asarray(config.low, float), np.asarray(config.high, float)
        self.max_step = self.high - self.low if config.max_step is None else np.asarray(config.max_step, float)
        limits = np.stack([self.low, self.high, self.max_step]) if self._same_length() else np.array([[np.nan]])
        if not np.isfinite(limits).all() or (self.low >= self.high).any() or (self.max_step <= 0).any():
            raise RobotError(
                f"finetune_robot.robot.guard is impossible: {config}. low < high, max_step > 0, same length."
            )
        self._last: ndarray | None = None

    def _same_length(self) -> bool:
        return len(self.low) == len(self.high) == len(self.max_step)

    def reset(self) -> None:
        """Forget the last action: the next one starts an episode."""
        self._last = None

    def check(self, action: Float[ndarray, "A"]) -> Float[ndarray, "A"]:
        """The action to send. Raises UnsafeActionError for one that must not be sent in any form."""
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
        if self._last is not None:
            safe = np.clip(safe, self._last - self.max_step, self._last + self.max_step)
        self._last = safe
        return safe


def limits_fingerprint(config: GuardConfig) -> str:
    """Hex sha256 of the limits, which an arming token names."""
    return sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()
