"""A pool of scripted operators for Lift, who differ as people do: in their ways, haste and slips.

Each follows a plan, a list of aims relative to the cube. A command is ``clip((target - tool) / 0.05 m,
±pace)`` for the position and ``clip((z_tool × (0, 0, -1) + yaw error · e_z) / 0.5 rad, ±0.6)`` for the
rotation: the cross product levels the tool, the yaw error of the axis along which the fingers open is wrapped
to the cube's quarter turns. The hand lags behind what is wanted, drifts (an Ornstein-Uhlenbeck error) and
trembles (white noise). Slips are put into the plan beforehand; a grasp that did not take is seen by the
fingers closing fully, and tried again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from postbc.sims.task import Array, OperatorFactory

METRES_A_COMMAND: Final = 0.05  # of the position part of an action of 1
RADIANS_A_COMMAND: Final = 0.5
MAX_TURN: Final = 0.6  # of the rotation part of an action
GRASP: Final = -0.005  # metres, tool height over the cube's centre when the fingers close
EMPTY: Final = 0.015  # metres, finger position below which nothing is between the fingers (the cube's half is 0.02)
OPEN, CLOSE = -1.0, 1.0


@dataclass(frozen=True)
class Style:
    """One operator's habits. Lengths in metres; ``scale`` multiplies everything from ``tremor`` on."""

    hover: float = 0.08  # height above the cube before going down
    side: float = 0.0  # start the descent this far away, across the fingers, and slide in
    high: float = 0.0  # cross the table at this height above the cube before anything else; 0 goes straight
    quarter: int = 0  # quarter turns of yaw added to the nearest alignment
    late_yaw: bool = False  # turn the hand only when close
    pace: float = 0.8  # largest position command
    lag: float = 0.3  # share of the last command kept
    settle: int = 6  # steps the fingers close before rising
    tremor: float = 0.05  # white noise of commands
    drift: float = 0.08  # slow error of commands
    overshoot: float = 0.2  # probability to go past the hover point and come back
    miss: float = 0.15  # probability to close beside the cube first
    pause: float = 0.2  # probability to stop for a while
    wander: float = 0.15  # probability to start in some other direction

    def scaled(self, scale: float) -> "Style":
        """The same habits with every imperfection multiplied; probabilities stay below 0.95."""
        odds = {name: min(0.95, scale * getattr(self, name)) for name in ("overshoot", "miss", "pause", "wander")}
        return replace(self, tremor=scale * self.tremor, drift=scale * self.drift, **odds)


POOL: Final = {
    "steady": Style(tremor=0.03, drift=0.06, overshoot=0.1, miss=0.08),
    "hasty": Style(hover=0.04, pace=1.0, lag=0.1, settle=4, drift=0.12, overshoot=0.5, miss=0.25, pause=0.05),
    "careful": Style(hover=0.06, high=0.15, pace=0.5, lag=0.5, settle=9, pause=0.5, miss=0.05, overshoot=0.1),
    "sideways": Style(hover=0.03, side=0.09, pace=0.7, tremor=0.04, overshoot=0.15),
    "roundabout": Style(hover=0.10, late_yaw=True, pace=0.8, lag=0.5, drift=0.12, wander=0.7, pause=0.3),
    "turner": Style(hover=0.07, quarter=1, pace=0.7, tremor=0.07, miss=0.3, wander=0.1),
}


@dataclass(frozen=True)
class Aim:
    """One leg of a plan: bring the tool to the cube plus ``offset`` (metres; its x is across if ``turned``).

    Done when the tool is within ``near`` metres and ``aligned`` radians, or after ``patience`` steps.
    """

    offset: tuple[float, float, float]
    near: float = 0.02
    aligned: float = np.inf
    gripper: float = OPEN
    patience: int = 30
    still: bool = False  # hold position until patience ends
    turned: bool = False
    retry: bool = False  # afterwards, look whether the cube is held


def _going_down(style: Style) -> list[Aim]:
    """The legs that a grasp needs, without slips."""
    near = max(0.008, 0.012 * style.pace)
    aside = (style.side, 0.0, style.hover)
    return [
        Aim(aside, near=0.02, aligned=np.inf if style.late_yaw else 0.12, turned=True),
        Aim((0.0, 0.0, GRASP + 0.02), near=0.015, aligned=0.15, turned=True, patience=25),
        Aim((0.0, 0.0, GRASP), near=near, aligned=0.15, patience=20),
        Aim((0.0, 0.0, GRASP), gripper=CLOSE, patience=style.settle, still=True),
        Aim((0.0, 0.0, 0.12), gripper=CLOSE, patience=12, retry=True),
    ]


def _slipping(style: Style, generator: np.random.Generator) -> list[Aim]:
    """A grasp beside or above the cube: close on nothing, open, draw back."""
    angle, reach = generator.uniform(0, 2 * np.pi), generator.uniform(0.0, 0.012)
    spot = (reach * np.cos(angle), reach * np.sin(angle), generator.uniform(0.03, 0.045))
    return [
        Aim(spot, near=0.012, aligned=0.3, patience=25),
        Aim(spot, gripper=CLOSE, patience=int(generator.integers(4, 8)), still=True),
        Aim((spot[0], spot[1], style.hover + 0.03), gripper=OPEN, patience=8),
    ]


def _plan(style: Style, generator: np.random.Generator) -> list[Aim]:
    """The first attempt, slips included; which of them happen is drawn here."""
    chance = generator.random(4)
    plan: list[Aim] = []
    if chance[0] < style.wander:
        x, y = generator.uniform(-0.12, 0.12, 2)
        plan.append(Aim((x, y, generator.uniform(0.10, 0.2)), near=0.04, patience=15))
    if style.high:
        plan.append(Aim((0.0, 0.0, style.high), near=0.025))
    if chance[1] < style.overshoot:
        x, y = generator.uniform(-0.05, 0.05, 2)
        plan.append(Aim((x, y, style.hover - 0.01 * generator.random()), near=0.02))
    down = _going_down(style)
    if chance[2] < style.pause:
        down.insert(1, Aim(down[0].offset, patience=int(generator.integers(3, 12)), still=True, turned=True))
    slip = _slipping(style, generator) if chance[3] < style.miss else []
    return plan + down[:1] + slip + down[1:]


def _rotation(quat: Array) -> Array:
    """Rotation matrix (3, 3) of a quaternion (x, y, z, w)."""
    x, y, z, w = np.asarray(quat, np.float64) / np.linalg.norm(quat)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _heading(axis: Array) -> float:
    return float(np.arctan2(axis[1], axis[0]))


def _wrapped(angle: float, period: float) -> float:
    """``angle`` in [-period/2, period/2)."""
    return (angle + period / 2) % period - period / 2


class LiftOperator:
    """One person at the controls for one episode."""

    def __init__(self, style: Style, generator: np.random.Generator, scale: float) -> None:
        """Draw the plan; ``scale`` multiplies the style's imperfections."""
        self.style, self._generator = style.scaled(scale), generator
        self._plan = _plan(self.style, generator)
        self._elapsed = 0
        self._wanted: Array = np.zeros(6)
        self._error: Array = np.zeros(6)
        self._yaw: float | None = None  # heading of the fingers that was chosen at the first sight
        self._hold: Array | None = None  # where the tool stays during a still aim

    def act(self, record: Mapping[str, Array]) -> Array:
        """The next action (7,), from robomimic's observation keys."""
        tool, cube = (
            np.asarray(record["robot0_eef_pos"], np.float64),
            np.asarray(record["object"], np.float64)[:7],
        )
        rotation = _rotation(record["robot0_eef_quat"])
        turn = self._turn(rotation, cube)
        aim = self._aim(tool, cube, turn, record["robot0_gripper_qpos"])
        towards = (self._target(aim, tool, cube) - tool) / METRES_A_COMMAND
        towards *= self.style.pace / max(self.style.pace, float(np.abs(towards).max()))
        if self.style.late_yaw and np.linalg.norm(tool - cube[:3]) > 0.13:
            turn = 0.0
        level = np.cross(rotation[:, 2], (0.0, 0.0, -1.0)) + turn * np.array([0.0, 0.0, 1.0])
        turning = np.clip(level / RADIANS_A_COMMAND, -MAX_TURN, MAX_TURN)
        return self._shaky(np.concatenate([towards, turning]), aim.gripper)

    def _turn(self, rotation: Array, cube: Array) -> float:
        """Signed yaw, radians, from the fingers' axis to the chosen face of the cube."""
        fingers, face = _heading(rotation[:, 1]), _heading(_rotation(cube[3:])[:, 0])
        if self._yaw is None:
            nearest = _wrapped(face - fingers, np.pi / 2)
            other = -np.sign(nearest) * np.pi / 2 * self.style.quarter  # the other way round: at most a quarter turn
            self._yaw = fingers + nearest + float(other)
        self._yaw += _wrapped(face - self._yaw, np.pi / 2)  # follows a cube that was pushed
        return _wrapped(self._yaw - fingers, 2 * np.pi)

    def _aim(self, tool: Array, cube: Array, turn: float, fingers: Array) -> Aim:
        """The present leg of the plan, after leaving those that are done."""
        aim, self._elapsed = self._plan[0], self._elapsed + 1
        there = np.linalg.norm(self._target(aim, tool, cube) - tool) < aim.near and abs(turn) < aim.aligned
        over = self._elapsed > aim.patience or (there and not aim.still)
        empty = aim.retry and self._elapsed > 2 and float(np.abs(fingers).max()) < EMPTY
        if not (over or empty):
            return aim
        self._plan = self._plan[1:] or _going_down(self.style)  # the cube is not up yet: once more
        self._elapsed, self._hold = 0, None
        return self._plan[0]

    def _target(self, aim: Aim, tool: Array, cube: Array) -> Array:
        """Where the tool should be, metres in the world."""
        if aim.still:
            self._hold = tool.copy() if self._hold is None else self._hold
            return self._hold
        x, y, z = aim.offset
        if aim.turned:
            across = (self._yaw or 0.0) - np.pi / 2
            x, y = x * np.cos(across) - y * np.sin(across), x * np.sin(across) + y * np.cos(across)
        return np.asarray(cube[:3] + np.array([x, y, z]))

    def _shaky(self, wanted: Array, gripper: float) -> Array:
        """What the hand does when this is wanted: late, adrift, trembling."""
        style, noise = self.style, self._generator.standard_normal((2, 6))
        self._wanted = style.lag * self._wanted + (1 - style.lag) * wanted
        self._error = 0.85 * self._error + np.sqrt(1 - 0.85**2) * style.drift * noise[0]
        motion = self._wanted + self._error + style.tremor * noise[1]
        return np.clip(np.append(motion, gripper), -1.0, 1.0).astype(np.float32)


def _operator(style: Style, generator: np.random.Generator, scale: float) -> LiftOperator:
    return LiftOperator(style, generator, scale)


OPERATORS: Final[Mapping[str, OperatorFactory]] = {name: partial(_operator, style) for name, style in POOL.items()}
