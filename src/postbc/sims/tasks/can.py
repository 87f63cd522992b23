"""Can: the Panda takes a can from one bin and puts it into its place in the other (robosuite's PickPlaceCan)."""

from functools import partial
from typing import Final

from postbc.sims.demonstrators.hand import pool
from postbc.sims.demonstrators.plan import Job, Placing, carrying
from postbc.sims.task import Task
from postbc.sims.tasks.panda import Scene, panda_task

JOB: Final = Job(
    face=None,
    settle=3,
    empty=0.01,
    goal=(0.1975, 0.4025, 0.8),  # the can's quarter of the second bin
    carry=partial(carrying, Placing(rise=1.08, over=0.28, release=0.13, near=0.05)),
)
SCENE: Final = Scene(
    suite="PickPlaceCan",
    handled="Can",
    sensors=("Can_pos", "Can_quat", "Can_to_robot0_eef_pos", "Can_to_robot0_eef_quat"),
    object_dim=14,
    readings=2,
    horizon=400,
    success="the can lies in its quarter of the other bin, let go",
)


def task(name: str) -> Task:
    """The task."""
    return panda_task(name, SCENE, pool(JOB))
