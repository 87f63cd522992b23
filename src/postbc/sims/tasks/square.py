"""Square: the Panda takes a square nut by its handle and puts it over a square peg (robosuite's NutAssemblySquare)."""

from functools import partial
from typing import Final

import numpy as np

from postbc.sims.demonstrators.hand import pool
from postbc.sims.demonstrators.plan import Job, Placing, Sight, carrying, heading, rotation, wrapped
from postbc.sims.task import Task
from postbc.sims.tasks.panda import Scene, panda_task

PEG: Final = (0.23, 0.10, 0.82)  # metres: its place, and the table's height
BASE: Final = np.array([-0.56, 0.0])  # metres: the arm's
REACH: Final = 0.77  # metres from the base; further out the arm is stretched and the wrist can not turn
WRIST: Final = 2.75  # radians: how far the last joint may be turned either way


def turn_over_peg(sight: Sight) -> float:
    """The yaw by which to turn a held nut: that multiple of a quarter turn from the peg's that the arm can reach best."""
    nearest = wrapped(-heading(rotation(sight.object[3:])[:, 0]), np.pi / 2)
    away = (sight.object[:3] - sight.tool)[:2]

    def cost(turn: float) -> float:
        cos, sin = np.cos(turn), np.sin(turn)
        tool = np.array(PEG[:2]) - np.array([[cos, -sin], [sin, cos]]) @ away
        beyond = max(0.0, float(np.linalg.norm(tool - BASE)) - REACH)
        stuck = abs(sight.joints[6] - turn) > WRIST
        return float(20 * beyond + 0.03 * abs(turn) + 100 * stuck)

    return min((nearest + k * np.pi / 2 for k in range(-2, 3)), key=cost)


JOB: Final = Job(
    handle=(0.054, 0.0, 0.0),
    period=np.pi,
    face=np.pi / 2,
    settle=5,
    empty=0.004,
    goal=PEG,
    carry=partial(carrying, Placing(rise=1.05, over=0.21, release=0.04, near=0.006, aligned=0.05, shake=0.25)),
    goal_turn=turn_over_peg,
)
SCENE: Final = Scene(
    suite="NutAssemblySquare",
    handled="SquareNut",
    sensors=("SquareNut_pos", "SquareNut_quat", "SquareNut_to_robot0_eef_pos", "SquareNut_to_robot0_eef_quat"),
    object_dim=14,
    readings=2,
    horizon=400,
    success="the nut lies round the peg, let go",
)


def task(name: str) -> Task:
    """The task."""
    return panda_task(name, SCENE, pool(JOB))
