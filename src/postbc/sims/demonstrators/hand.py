"""Scripted operators of an arm with two fingers, who differ as people do.

Each follows a plan (:mod:`postbc.sims.demonstrators.plan`). A command is ``clip((target - tool) / 0.05 m, ±pace)`` for
the position and ``clip((z_tool × (0, 0, -1) + yaw error · e_z) / 0.5 rad, ±0.6)`` for the rotation: the cross product
levels the tool, the yaw error of the axis along which the fingers open is wrapped to the object's symmetry. The hand lags
behind what is wanted, drifts (an Ornstein-Uhlenbeck error) and trembles (white noise). Slips are put into the plan
beforehand; a grasp that did not take, or an object that was lost on the way, is seen by the fingers closing fully: all
begins again.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np

from postbc.sims.demonstrators.plan import (
    Aim,
    Frame,
    Job,
    Sight,
    first_attempt,
    fitted,
    going_down,
    heading,
    rotation,
    wrapped,
)
from postbc.sims.demonstrators.style import POOL, Style
from postbc.sims.task import Array, OperatorFactory

METRES_A_COMMAND: Final = 0.05  # of the position part of an action of 1
RADIANS_A_COMMAND: Final = 0.5
MAX_TURN: Final = 0.6  # of the rotation part of an action
LATE: Final = 0.13  # metres from the object at which those turn who turn late


class ShakyHand:
    """What becomes of a wish: late, adrift, trembling."""

    def __init__(self, style: Style, generator: np.random.Generator, size: int) -> None:
        """``size`` commands besides the gripper's."""
        self._style, self._generator = style, generator
        self._wanted: Array = np.zeros(size)
        self._error: Array = np.zeros(size)

    def __call__(self, wanted: Array, gripper: float, shake: float = 1.0) -> Array:
        """The action (size + 1,) float32 in [-1, 1]; ``shake`` multiplies drift and tremor."""
        style, noise = self._style, self._generator.standard_normal((2, len(wanted)))
        self._wanted = style.lag * self._wanted + (1 - style.lag) * wanted
        self._error = 0.85 * self._error + np.sqrt(1 - 0.85**2) * style.drift * noise[0]
        motion = self._wanted + shake * (self._error + style.tremor * noise[1])
        return np.clip(np.append(motion, gripper), -1.0, 1.0).astype(np.float32)


class ArmOperator:
    """One person at the controls for one episode."""

    def __init__(self, job: Job, style: Style, generator: np.random.Generator, scale: float) -> None:
        """Draw the plan; ``scale`` multiplies the style's imperfections."""
        self.job, self.style, self._generator = job, style.scaled(scale), generator
        self._hand = ShakyHand(self.style, generator, 6 if job.turns else 3)
        plan = first_attempt(self.style, generator, job.settle) + job.carry(self.style, generator)
        self._plan = fitted(plan, job)
        self._elapsed = 0
        self._yaw: float | None = None  # heading of the fingers that was chosen at the first sight
        self._turned: float | None = None  # heading of a held object that was chosen when it was up
        self._hold: Array | None = None  # where the tool stays during a still aim

    def act(self, record: Mapping[str, Array]) -> Array:
        """The next action (A,), from a recorded observation."""
        sight = self.job.see(record)
        turn = self._turn(sight)
        aim = self._aim(sight, turn)
        turn = self._turn(sight)  # the leg may be another one now
        pace = aim.pace * self.style.pace
        towards = (self._target(aim, sight) - sight.tool) / METRES_A_COMMAND
        towards *= pace / max(pace, float(np.abs(towards).max()))
        gripper = aim.gripper * self.job.closing
        if not self.job.turns:
            return self._hand(towards, gripper, aim.shake)
        if self.style.late_yaw and self._plan[0].frame is Frame.OBJECT and self._distance(sight) > LATE:
            turn = 0.0
        level = np.cross(sight.rotation[:, 2], (0.0, 0.0, -1.0)) + turn * np.array([0.0, 0.0, 1.0])
        turning = np.clip(level / RADIANS_A_COMMAND, -MAX_TURN, MAX_TURN)
        return self._hand(np.concatenate([towards, turning]), gripper, aim.shake)

    def _distance(self, sight: Sight) -> float:
        return float(np.linalg.norm(sight.tool - sight.object[:3]))

    def _place(self, sight: Sight) -> Array:
        """Where the object is to be grasped."""
        return np.asarray(sight.object[:3] + rotation(sight.object[3:]) @ np.asarray(self.job.handle))

    def _turn(self, sight: Sight) -> float:
        """Signed yaw, radians, that the present leg still asks for."""
        if self._plan[0].frame is Frame.GOAL:
            return self._turn_held(sight)
        fingers = heading(sight.rotation[:, 1])
        if self.job.face is None:
            self._yaw = fingers if self._yaw is None else self._yaw
            return wrapped(self._yaw - fingers, 2 * np.pi)
        face = heading(rotation(sight.object[3:])[:, 0]) + self.job.face
        if self._yaw is None:
            nearest = wrapped(face - fingers, self.job.period)
            other = -np.sign(nearest) * self.job.period * self.style.quarter  # the other way round, at most a quarter
            self._yaw = fingers + nearest + float(other if self.job.period <= np.pi / 2 else 0.0)
        self._yaw += wrapped(face - self._yaw, self.job.period)  # follows an object that was pushed
        return wrapped(self._yaw - fingers, 2 * np.pi)

    def _turn_held(self, sight: Sight) -> float:
        present = heading(rotation(sight.object[3:])[:, 0])
        if self._turned is None:
            self._turned = present + self.job.goal_turn(sight)
        return wrapped(self._turned - present, 2 * np.pi)

    def _aim(self, sight: Sight, turn: float) -> Aim:
        """The present leg of the plan, after leaving those that are done."""
        aim, self._elapsed = self._plan[0], self._elapsed + 1
        there = np.linalg.norm(self._target(aim, sight) - sight.tool) < aim.near and abs(turn) < aim.aligned
        over = self._elapsed > aim.patience or (there and not aim.still)
        lost = aim.holding and self._elapsed > 2 and sight.fingers < self.job.empty
        if not (over or lost):
            return aim
        redo = [*aim.redo, aim] if aim.redo and not there else []
        self._plan = [] if lost else redo + self._plan[1:]
        if not self._plan:  # and no success yet: once more
            plan = going_down(self.style, self.job.settle) + self.job.carry(self.style, self._generator)
            self._plan = fitted(plan, self.job)
            self._turned = None
        self._elapsed, self._hold = 0, None
        return self._plan[0]

    def _target(self, aim: Aim, sight: Sight) -> Array:
        """Where the tool should be, metres in the world."""
        if aim.still:
            self._hold = sight.tool.copy() if self._hold is None else self._hold
            return self._hold
        x, y, z = aim.offset
        if aim.frame is Frame.ABOVE:
            return np.array([*sight.tool[:2], z])
        if aim.frame is Frame.GOAL:
            goal = np.asarray(self.job.goal) if sight.goal is None else sight.goal
            return np.asarray(goal + aim.offset + sight.tool - sight.object[:3])
        if aim.turned:
            across = (self._yaw or 0.0) - np.pi / 2
            x, y = x * np.cos(across) - y * np.sin(across), x * np.sin(across) + y * np.cos(across)
        return np.asarray(self._place(sight) + np.array([x, y, z]))


def _operator(job: Job, style: Style, generator: np.random.Generator, scale: float) -> ArmOperator:
    return ArmOperator(job, style, generator, scale)


def pool(job: Job) -> Mapping[str, OperatorFactory]:
    """The whole pool at this job."""
    return {name: partial(_operator, job, style) for name, style in POOL.items()}
