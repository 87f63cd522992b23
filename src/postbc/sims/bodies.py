"""MuJoCo models whose handled things are other bodies than the robot's: alter them, and save a whole state."""

from typing import Any

import numpy as np

from postbc.sims.task import Array


def alter(model: Any, robot: str, mass: float, friction: float) -> None:
    """Scale mass and inertia of every body outside the kinematic tree of the body ``robot``, and all friction.

    MuJoCo takes the larger friction of two touching shapes, so the robot's own has to change with the rest.
    """
    if mass == friction == 1:
        return
    tree = model.body_rootid[model.body(robot).id]
    others = model.body_rootid != tree
    model.body_mass[others] *= mass
    model.body_inertia[others] *= mass
    model.geom_friction[:] *= friction


def positions_and_velocities(data: Any) -> Array:
    """Time, positions and velocities, flat, float64."""
    return np.concatenate([[data.time], data.qpos, data.qvel])
