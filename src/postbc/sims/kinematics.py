"""Where an arm's tool is for given joints, and which joint motion moves it as wanted, on the arm's MuJoCo model.

A twist ``v`` (6,) of the tool asks for ``dq = Jᵀ (J Jᵀ + λ² I)⁻¹ v`` (damped least squares; Wampler 1986, IEEE Trans. SMC
16(1)), rotations weighted by a length, so that near the end of its reach an arm gives up the attitude before the place.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from postbc.sims.task import Array

LEVER: Final = 0.05  # metres that a radian of the tool's attitude is worth
DAMPING: Final = 0.015  # metres


class Kinematics:
    """Of the ``site`` that the ``joints`` move; J of them, radians, hinges."""

    def __init__(self, model: Any, site: str, joints: Sequence[str]) -> None:
        """``model`` is MuJoCo's; it is not changed."""
        from mujoco import MjData

        self._model, self._data, self._site = model, MjData(model), model.site(site).id
        self._places = np.array([int(model.joint(name).qposadr[0]) for name in joints])
        self._columns = np.array([int(model.joint(name).dofadr[0]) for name in joints])
        self._weights = np.array([1.0] * 3 + [LEVER] * 3)

    def _move(self, joints: Array) -> None:
        from mujoco import mj_comPos, mj_kinematics

        self._data.qpos[self._places] = joints
        mj_kinematics(self._model, self._data)
        mj_comPos(self._model, self._data)

    def tool(self, joints: Array) -> tuple[Array, Array]:
        """Position (3,) in metres and rotation (3, 3) of the site with the joints at ``joints`` (J,)."""
        self._move(joints)
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()

    def follow(self, joints: Array, twist: Array) -> Array:
        """Joint motion (J,) from ``joints`` (J,) that moves the site by ``twist`` (6,): metres, then a rotation vector."""
        from mujoco import mj_jacSite

        self._move(joints)
        jacobian = np.zeros((6, self._model.nv))
        mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._site)
        weighted = self._weights[:, None] * jacobian[:, self._columns]
        damped = weighted @ weighted.T + DAMPING**2 * np.eye(6)
        return np.asarray(weighted.T @ np.linalg.solve(damped, self._weights * twist))
