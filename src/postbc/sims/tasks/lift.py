"""Lift: the Panda picks a cube up from the table; success is 4 cm above it."""

from dataclasses import replace
from typing import Any, Final

from postbc.errors import ConfigError
from postbc.sims.demonstrators.hand import pool
from postbc.sims.demonstrators.plan import Job
from postbc.sims.task import Task
from postbc.sims.tasks.panda import Scene, import_robosuite, panda_task

PLACEMENT: Final = 0.03  # metres, robosuite's own
WIDE: Final = 0.15  # metres: cloning a few demonstrations often fails
REACH: Final = 0.2  # metres, further than which the arm can not grasp


def _arguments(placement: float) -> dict[str, Any]:
    """The cube starts within ``placement`` metres of the table's centre along x and along y, at any yaw."""
    if not 0 <= placement <= REACH:
        raise ConfigError(f"task.options.placement = {placement}: expected 0 to {REACH} m; the arm reaches no further.")
    import_robosuite()
    from robosuite.utils.placement_samplers import UniformRandomSampler

    sampler = UniformRandomSampler(
        name="cube",
        x_range=(-placement, placement),
        y_range=(-placement, placement),
        rotation=None,  # any yaw
        ensure_object_boundary_in_range=False,
        reference_pos=(0, 0, 0.8),  # the table top
        z_offset=0.01,
    )
    return {"placement_initializer": sampler}


SCENE: Final = Scene(
    suite="Lift",
    handled="cube",
    sensors=("cube_pos", "cube_quat", "gripper_to_cube_pos"),
    object_dim=10,
    horizon=120,
    success="the cube is 4 cm above the table",
    options={"placement": PLACEMENT},
    arguments=_arguments,
)
WIDE_SCENE: Final = replace(SCENE, options={"placement": WIDE})


def task(name: str) -> Task:
    """``lift``, or ``lift_wide``: the same with the cube further about."""
    return panda_task(name, {"lift": SCENE, "lift_wide": WIDE_SCENE}[name], pool(Job()))
