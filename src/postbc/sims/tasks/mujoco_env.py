"""What tasks on MuJoCo share: a camera, a flat state, altered dynamics."""

from typing import Any

import numpy as np

from postbc.sims.rendering import Camera
from postbc.sims.task import Array, TaskEnv


class MujocoTaskEnv(TaskEnv):
    """A task whose simulation has one MuJoCo model; a subclass says where, and sets ``camera``."""

    camera: str = "agentview"
    _camera: Camera | None = None

    def physics(self) -> tuple[Any, Any]:
        """MuJoCo's model and data."""
        raise NotImplementedError

    def simulator_state(self) -> Array:
        """Time, positions and velocities, float64."""
        _, data = self.physics()
        return np.concatenate([[data.time], data.qpos, data.qvel])

    def render(self) -> Array:
        """The scene, (256, 256, 3) uint8. Raises RenderingUnavailableError without OpenGL."""
        model, data = self.physics()
        if self._camera is None:
            self._camera = Camera(model, self.camera)
        return self._camera.picture(data)

    def close(self) -> None:
        """Free the camera."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None


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
