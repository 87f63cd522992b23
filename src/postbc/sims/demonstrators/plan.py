"""What an arm is to do, leg by leg: grasp an object, slips included, and bring it where it belongs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Final

import numpy as np

from postbc.sims.demonstrators.style import Style
from postbc.sims.task import Array

GRASP: Final = -0.005  # metres, tool height over the place of grasp when the fingers close
OPEN, CLOSE = -1.0, 1.0


class Frame(Enum):
    """What the offset of an aim is added to."""

    OBJECT = "object"  # the place where the object is grasped
    GOAL = "goal"  # the task's goal; it is the object that is to get there
    ABOVE = "above"  # the tool's own x and y; the offset's z is a height in the world


@dataclass(frozen=True)
class Aim:
    """One leg of a plan: bring the tool to ``frame`` plus ``offset`` (metres; its x is across if ``turned``).

    Done when the tool is within ``near`` metres and ``aligned`` radians, or after ``patience`` steps.
    """

    offset: tuple[float, float, float]
    near: float = 0.02
    aligned: float = np.inf
    gripper: float = OPEN
    patience: int = 30
    frame: Frame = Frame.OBJECT
    pace: float = 1.0  # factor on the operator's own
    shake: float = 1.0  # factor on drift and tremor: people steady themselves for what is delicate
    redo: tuple["Aim", ...] = ()  # legs to do again, and then this one, when patience ends
    still: bool = False  # hold position until patience ends
    turned: bool = False
    holding: bool = False  # look whether the object is held; if not, begin again


@dataclass(frozen=True)
class Sight:
    """What an operator sees of a step. Lengths in metres in the world's frame."""

    tool: Array  # (3,)
    rotation: Array  # (3, 3) of the tool; its y axis is that along which the fingers open
    object: Array  # (7,) position, quaternion x y z w
    fingers: float  # half the opening
    joints: Array  # (J,) of the arm, radians
    goal: Array | None = None  # (3,) where the object belongs, if that can be seen


def see_panda(record: Mapping[str, Array]) -> Sight:
    """From robomimic's observation keys of a Panda."""
    return Sight(
        tool=np.asarray(record["robot0_eef_pos"], np.float64),
        rotation=rotation(record["robot0_eef_quat"]),
        object=np.asarray(record["object"], np.float64)[:7],
        fingers=float(np.abs(record["robot0_gripper_qpos"]).max()),
        joints=np.asarray(record["robot0_joint_pos"], np.float64),
    )


def _stay(sight: Sight) -> float:
    return 0.0


def _nowhere(style: Style, generator: np.random.Generator) -> list[Aim]:
    return []


@dataclass(frozen=True)
class Job:
    """What operators know of a task."""

    see: Callable[[Mapping[str, Array]], Sight] = see_panda
    turns: bool = True  # the hand can be turned: an action has 6 commands before the gripper's, else 3
    closing: float = 1.0  # the gripper's command that closes it; its negative opens
    handle: tuple[float, float, float] = (0.0, 0.0, 0.0)  # where the object is grasped, in its own frame
    period: float = np.pi / 2  # of the yaws at which it can be grasped
    face: float | None = 0.0  # one of these yaws, from the object's x axis; None: it is round, any yaw will do
    settle: int = 0  # steps the fingers need to close, beyond the operator's own
    empty: float = 0.015  # finger opening below which nothing is between them
    lengths: float = 1.0  # factor on those of the plan: for an arm smaller than a Panda
    patience: float = 1.0  # factor on that of the plan: for one slower, or commanded more often
    goal: tuple[float, float, float] = (0.0, 0.0, 0.0)  # where the object belongs, unless that can be seen
    carry: Callable[[Style, np.random.Generator], list[Aim]] = _nowhere  # legs after the grasp; may differ each time
    goal_turn: Callable[[Sight], float] = _stay  # yaw by which a held object is to be turned on the way


def fitted(plan: Sequence[Aim], job: Job) -> list[Aim]:
    """``plan`` in the lengths and with the patience of ``job``."""

    def fit(aim: Aim) -> Aim:
        x, y, z = (job.lengths * value for value in aim.offset)
        patience = round(job.patience * aim.patience)
        return replace(
            aim, offset=(x, y, z), near=job.lengths * aim.near, patience=patience, redo=tuple(map(fit, aim.redo))
        )

    return [fit(aim) for aim in plan]


def going_down(style: Style, settle: int = 0) -> list[Aim]:
    """The legs that a grasp needs, without slips."""
    near = max(0.008, 0.012 * style.pace)
    aside = (style.side, 0.0, style.hover)
    return [
        Aim(aside, near=0.02, aligned=np.inf if style.late_yaw else 0.12, turned=True),
        Aim((0.0, 0.0, GRASP + 0.02), near=0.015, aligned=0.15, turned=True, patience=25),
        Aim((0.0, 0.0, GRASP), near=near, aligned=0.15, patience=20),
        Aim((0.0, 0.0, GRASP), gripper=CLOSE, patience=style.settle + settle, still=True),
        Aim((0.0, 0.0, 0.12), gripper=CLOSE, patience=12, holding=True),
    ]


def _slipping(style: Style, generator: np.random.Generator) -> list[Aim]:
    """A grasp beside or above the object: close on nothing, open, draw back."""
    angle, reach = generator.uniform(0, 2 * np.pi), generator.uniform(0.0, 0.012)
    spot = (reach * np.cos(angle), reach * np.sin(angle), generator.uniform(0.03, 0.045))
    return [
        Aim(spot, near=0.012, aligned=0.3, patience=25),
        Aim(spot, gripper=CLOSE, patience=int(generator.integers(4, 8)), still=True),
        Aim((spot[0], spot[1], style.hover + 0.03), gripper=OPEN, patience=8),
    ]


def first_attempt(style: Style, generator: np.random.Generator, settle: int = 0) -> list[Aim]:
    """The legs until the object is up, slips included; which of them happen is drawn here."""
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
    down = going_down(style, settle)
    if chance[2] < style.pause:
        down.insert(1, Aim(down[0].offset, patience=int(generator.integers(3, 12)), still=True, turned=True))
    slip = _slipping(style, generator) if chance[3] < style.miss else []
    return plan + down[:1] + slip + down[1:]


@dataclass(frozen=True)
class Placing:
    """How an object is put down. Metres, radians."""

    rise: float  # height of the tool in the world before it moves sideways
    over: float  # height of the object over the goal on the way there
    release: float  # height of the object over the goal when it is let go
    near: float = 0.03  # how well it is placed before it is lowered
    aligned: float = np.inf
    shake: float = 1.0  # factor on drift and tremor meanwhile


def carrying(how: Placing, style: Style, generator: np.random.Generator) -> list[Aim]:
    """Rise, carry the object over the goal, lower it, let go, draw back."""
    held = partial(Aim, gripper=CLOSE, holding=True)
    lift = how.rise + 0.03 * generator.random()
    plan = [held((0.0, 0.0, lift), near=0.03, frame=Frame.ABOVE, patience=60)]
    chance = generator.random(3)
    if chance[0] < style.wander:
        x, y = generator.uniform(-0.08, 0.08, 2)
        plan.append(held((x, y, how.over + 0.03), near=0.05, frame=Frame.GOAL, patience=40))
    if chance[1] < style.overshoot:
        x, y = generator.uniform(-0.03, 0.03, 2)
        plan.append(held((x, y, how.over), near=0.02, frame=Frame.GOAL, patience=60))
    there = (0.0, 0.0, how.over)
    over = held(there, near=how.near, aligned=how.aligned, frame=Frame.GOAL, shake=how.shake, patience=120)
    plan.append(over)
    if chance[2] < style.pause:
        plan.append(held((0.0, 0.0, 0.0), patience=int(generator.integers(3, 12)), still=True))
    down = partial(
        held, (0.0, 0.0, how.release), near=max(0.02, 1.5 * how.near), frame=Frame.GOAL, pace=0.6, shake=how.shake
    )
    return [
        *plan,
        down(patience=40, redo=(over,)),
        Aim((0.0, 0.0, 0.0), patience=5, still=True),
        Aim((0.0, 0.0, how.rise), 0.03, frame=Frame.ABOVE, patience=20),
    ]


def rotation(quat: Sequence[float] | Array) -> Array:
    """Rotation matrix (3, 3) of a quaternion (x, y, z, w)."""
    x, y, z, w = np.asarray(quat, np.float64) / np.linalg.norm(quat)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def heading(axis: Array) -> float:
    """Yaw of a vector, radians."""
    return float(np.arctan2(axis[1], axis[0]))


def wrapped(angle: float, period: float) -> float:
    """``angle`` in [-period/2, period/2)."""
    return (angle + period / 2) % period - period / 2
