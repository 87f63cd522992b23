"""Robosuite's operational-space controller as one compiled function that steps MuJoCo itself and holds no GIL.

For every substep of a control step, with the arm's Jacobian J, mass matrix M, tool pose (x, R), goal pose (x_g, R_g)
and velocities v = J q̇ (Khatib 1987, in robosuite's form):

    F = k_p (x_g − x) − k_d v_lin           T = k_p ½ Σ_i R_i × R_g,i − k_d v_ang
    Λ = (J M⁻¹ Jᵀ)⁻¹, Λ_p and Λ_o of its position and orientation blocks alone
    τ = Jᵀ (Λ_p F, Λ_o T) + bias + Nᵀ M u,  u = 10 (q₀ − q) − 2√10 q̇,  N = I − M⁻¹ Jᵀ Λ J

Robosuite spends 78 % of its step on this, in Python. Departures: M⁻¹ and Λ are applied through Cholesky factors, where
robosuite forms inverses and pseudo-inverses; Nᵀ M u is M u − Jᵀ Λ J u. The two agree to rounding. Goals are formed at
the first substep, relative to the pose then reached, in the frame of the arm's base.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from postbc.sims.task import Array

JOINT_KP: Final = 10.0  # of the null-space posture, robosuite's


@intrinsic
def _call(typing: Any, function: Any, model: Any, data: Any) -> tuple[Any, Callable[..., Any]]:
    """Call the C function at address ``function`` with two pointers; nothing of the address is compiled in."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word, word]).as_pointer()
        builder.call(builder.inttoptr(arguments[0], kind), list(arguments[1:]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@njit(cache=True, nogil=True)
def _dot(a: Array, b: Array) -> float:
    """Σ a_i b_i, without the temporary that an expression would allocate."""
    total = 0.0
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True)
def _factor(a: Array) -> None:
    """Lower Cholesky factor of a symmetric matrix, in place."""
    n = a.shape[0]
    for j in range(n):
        for k in range(j):
            a[j, j] -= a[j, k] * a[j, k]
        a[j, j] = np.sqrt(a[j, j])
        for i in range(j + 1, n):
            for k in range(j):
                a[i, j] -= a[i, k] * a[j, k]
            a[i, j] /= a[j, j]


@njit(cache=True, nogil=True)
def _forward(lower: Array, b: Array) -> None:
    """b ← L⁻¹ b."""
    for i in range(lower.shape[0]):
        for k in range(i):
            b[i] -= lower[i, k] * b[k]
        b[i] /= lower[i, i]


@njit(cache=True, nogil=True)
def _solve(lower: Array, b: Array) -> None:
    """b ← (L Lᵀ)⁻¹ b."""
    _forward(lower, b)
    n = lower.shape[0]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            b[i] -= lower[k, i] * b[k]
        b[i] /= lower[i, i]


@njit(cache=True, nogil=True)
def _rotate(a: Array, b: Array, out: Array) -> None:
    """out ← a b for 3×3 matrices."""
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]


@njit(cache=True, nogil=True)
def _mass(arm: Array, address: Array, parent: Array, packed: Array, out: Array) -> None:
    """The arm's block of the mass matrix, from MuJoCo's packing: each row holds its own and its ancestors' entries."""
    out[:] = 0.0
    for i in range(arm.size):
        k, j = address[arm[i]], arm[i]
        while j >= 0:
            for column in range(i + 1):
                if arm[column] == j:
                    out[i, column] = out[column, i] = packed[k]
            k, j = k + 1, parent[j]


@njit(cache=True, nogil=True)
def _jacobian(arm: Array, axes: Array, offset: Array, out: Array) -> None:
    """J (6, n) of a point ``offset`` away from the centre of mass that MuJoCo's motion ``axes`` refer to."""
    for i in range(arm.size):
        a = axes[arm[i]]
        out[0, i] = a[3] + a[1] * offset[2] - a[2] * offset[1]
        out[1, i] = a[4] + a[2] * offset[0] - a[0] * offset[2]
        out[2, i] = a[5] + a[0] * offset[1] - a[1] * offset[0]
        out[3:, i] = a[:3]


@njit(cache=True, nogil=True)
def _wrench(jacobian: Array, velocity: Array, poses: tuple[Array, ...], gains: Array, out: Array) -> None:
    """F and T (6,) before decoupling; ``poses`` are x, R, x_g, R_g, ``gains`` (2, 6) k_p and k_d."""
    x, rotation, goal, goal_rotation = poses
    for r in range(6):
        out[r] = -gains[1, r] * _dot(jacobian[r], velocity)
    for r in range(3):
        out[r] += gains[0, r] * (goal[r] - x[r])
        s, t = (r + 1) % 3, (r + 2) % 3
        error = 0.0
        for i in range(3):
            error += rotation[s, i] * goal_rotation[t, i] - rotation[t, i] * goal_rotation[s, i]
        out[3 + r] += gains[0, 3 + r] * 0.5 * error


@njit(cache=True, nogil=True)
def _torques(mass: Array, jacobian: Array, wrench: Array, posture: Array, out: Array) -> None:
    """τ (n,) without bias; ``wrench`` (6,) is overwritten, ``posture`` is u."""
    n = mass.shape[0]
    lower, half = mass.copy(), jacobian.copy()
    _factor(lower)
    for r in range(6):
        _forward(lower, half[r])
    inverse, pull = np.empty((6, 6)), np.empty(6)
    for r in range(6):
        for c in range(6):
            inverse[r, c] = _dot(half[r], half[c])
        pull[r] = _dot(jacobian[r], posture)
    position, orientation = inverse[:3, :3].copy(), inverse[3:, 3:].copy()
    _factor(position)
    _factor(orientation)
    _factor(inverse)
    _solve(position, wrench[:3])
    _solve(orientation, wrench[3:])
    _solve(inverse, pull)
    for r in range(6):
        wrench[r] -= pull[r]
    for i in range(n):
        out[i] = _dot(mass[i], posture) + _dot(jacobian[:, i], wrench)


@njit(cache=True, nogil=True)
def _control_step(
    addresses: tuple[int, int, int, int], substeps: tuple[int, int], arm: Any, live: Any, goal: Any, delta: Any
) -> None:
    """Substeps ``substeps[0]`` to ``substeps[1]`` of one control step; goals are formed at number 0."""
    step1, step2, model, data = addresses
    dofs, actuators, site, base, root, address, parent, gains, home, limits = arm
    qpos, qvel, ctrl, bias, places, frames, axes, packed, centres = live
    n = dofs.size
    mass, jacobian, wrench = np.empty((n, n)), np.empty((6, n)), np.empty(6)
    velocity, posture, torques = np.empty(n), np.empty(n), np.empty(n)
    aim, aim_rotation, relative = np.empty(3), np.empty((3, 3)), np.empty((3, 3))
    for substep in range(substeps[0], substeps[1]):
        _call(step1, model, data)
        x, rotation = places[site], frames[site].reshape(3, 3)
        origin, frame = places[base], frames[base].reshape(3, 3)
        if substep == 0:
            _rotate(frame.T, rotation, relative)
            _rotate(delta[1], relative, goal[1])
            for r in range(3):
                goal[0][r] = _dot(frame[:, r], x - origin) + delta[0][r]
        _rotate(frame, goal[1], aim_rotation)
        for r in range(3):
            aim[r] = origin[r] + _dot(frame[r], goal[0])
        for i in range(n):
            velocity[i] = qvel[dofs[i]]
            posture[i] = JOINT_KP * (home[i] - qpos[dofs[i]]) - 2 * np.sqrt(JOINT_KP) * velocity[i]
        _mass(dofs, address, parent, packed, mass)
        _jacobian(dofs, axes, x - centres[root], jacobian)
        _wrench(jacobian, velocity, (x, rotation, aim, aim_rotation), gains, wrench)
        _torques(mass, jacobian, wrench, posture, torques)
        for i in range(n):
            ctrl[actuators[i]] = min(max(torques[i] + bias[dofs[i]], limits[i, 0]), limits[i, 1])
        _call(step2, model, data)


@cache
def _functions() -> tuple[int, int]:
    """Addresses of mj_step1 and mj_step2 in the library that the mujoco package has loaded."""
    import mujoco

    folder = Path(mujoco.__file__).parent
    names = ("libmujoco*.so*", "libmujoco*.dylib", "mujoco.dll")
    library = ctypes.CDLL(str(next(path for name in names for path in sorted(folder.glob(name)))))
    first, second = (ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in ("mj_step1", "mj_step2"))
    assert first is not None and second is not None  # noqa: S101 - narrows the type; CDLL would have raised
    return first, second


def difference(simulation: Any) -> str:
    """What about a robosuite environment's controller is not as it is here; empty if it is the same."""
    arm = simulation.robots[0].part_controllers["right"]
    expected = {
        "name": "OSC_POSE",
        "impedance_mode": "fixed",
        "input_type": "delta",
        "input_ref_frame": "base",
        "uncoupling": True,
        "interpolator_pos": None,
        "interpolator_ori": None,
        "position_limits": None,
        "lite_physics": True,
        "_goal_update_mode": "achieved",
    }
    other = [f"{key} = {getattr(arm, key)!r}" for key, value in expected.items() if getattr(arm, key) != value]
    return ", ".join(other)


@dataclass
class CompiledControl:
    """Stands in for ``step`` of one robosuite environment, a Panda under OSC_POSE, from one reset to the next."""

    simulation: Any

    def __post_init__(self) -> None:
        """Look everything up; an environment with a :func:`difference` steps wrongly."""
        simulation, robot = self.simulation, self.simulation.robots[0]
        self._controller = controller = robot.part_controllers["right"]
        self._gripper, indexes = robot.gripper["right"], robot._ref_actuators_indexes_dict
        model, data = simulation.sim.model._model, simulation.sim.data._data
        self._substeps = int(simulation.control_timestep / simulation.model_timestep)
        self._addresses = (*_functions(), model._address, data._address)
        dofs, actuators = np.array(controller.qvel_index, np.int64), np.array(indexes["right"], np.int64)
        site = simulation.sim.model.site_name2id(controller.ref_name)
        base = simulation.sim.model.site_name2id(f"{controller.naming_prefix}{controller.part_name}_center")
        root = int(model.body_rootid[model.site_bodyid[site]])
        gains = np.stack([np.asarray(controller.kp, float), np.asarray(controller.kd, float)])
        limits = np.ascontiguousarray(model.actuator_ctrlrange[actuators])
        tree = (np.array(model.dof_Madr, np.int64), np.array(model.dof_parentid, np.int64))
        self.home = np.array(controller.initial_joint, float)
        self._arm = (dofs, actuators, site, base, root, *tree, gains, self.home, limits)
        bodies = (data.site_xpos, data.site_xmat, data.cdof, data.qM, data.subtree_com)
        self._live = (data.qpos, data.qvel, data.ctrl, data.qfrc_bias, *bodies)
        self._scale = np.asarray(controller.output_max, float)
        self._fingers = np.array(indexes["right_gripper"], np.int64)
        span = model.actuator_ctrlrange[self._fingers]
        self._finger_middle, self._finger_span = span.mean(axis=1), (span[:, 1] - span[:, 0]) / 2
        self._goal = (np.zeros(3), np.zeros((3, 3)))
        self._fresh = True

    def step(self, action: Array) -> None:
        """One control step under ``action`` (7,) in [-1, 1]; observations are for the caller to read."""
        if self._fresh:
            self._first(action)
        else:
            self._run(action)

    def _first(self, action: Array) -> None:
        """The first substep after a reset is robosuite's own, since its controller uses a mass matrix from before it."""
        self._fresh = False
        simulation = self.simulation
        simulation.sim.step1()
        simulation._pre_action(action, True)
        simulation.sim.step2()
        self._goal[0][:], self._goal[1][:] = self._controller.goal_pos, self._controller.goal_ori
        _control_step(self._addresses, (1, self._substeps), self._arm, self._live, self._goal, self._goal)

    def _run(self, action: Array) -> None:
        from robosuite.utils.transform_utils import axisangle2quat, quat2mat

        scaled = action[:6] * self._scale
        fingers = self._gripper.format_action(action[6:])
        self._live[2][self._fingers] = self._finger_middle + self._finger_span * fingers
        delta = (scaled[:3].copy(), np.ascontiguousarray(quat2mat(axisangle2quat(scaled[3:])), np.float64))
        _control_step(self._addresses, (0, self._substeps), self._arm, self._live, self._goal, delta)
