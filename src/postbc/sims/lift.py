"""Lift: robosuite's Panda picks a cube up from the table. 20 Hz, operational-space control, sparse success.

Actions (A = 7) in [-1, 1]: change of the tool's position (1 is 5 cm) and rotation vector (1 is 0.5 rad) in
the base frame, then the gripper (-1 opens, +1 closes). The state is assembled by key, since robosuite
releases order it differently.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from typing import Any, ClassVar, Final

import numpy as np

from postbc.errors import ConfigError
from postbc.sims.lift_operators import OPERATORS
from postbc.sims.rendering import Camera, choose_backend
from postbc.sims.task import (
    Array,
    Dynamics,
    Observation,
    OperatorFactory,
    Task,
    TaskEnv,
    columns,
    disturb,
    refuse_unknown,
)

STATE_KEYS: Final = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")  # S = 3 + 4 + 2
OBJECT_KEYS: Final = ("object",)  # V = 10: cube_pos 3, cube_quat 4 (xyzw), gripper_to_cube_pos 3
RECORDED_KEYS: Final = (*STATE_KEYS, "robot0_joint_pos")
PLACEMENT: Final = 0.03  # metres, robosuite's own
GRIPPING_GEOMS: Final = ("cube_g0", "table_collision", "finger1_pad_collision", "finger2_pad_collision")
FPS: Final = 20


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, from which robosuite 1.5.1 draws; afterwards put its state back."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


def _import_robosuite() -> Any:
    """Robosuite without its notices to its own developers, and with a drawing backend that is here."""
    backend = choose_backend()
    logging.getLogger("robosuite_logs").addFilter(lambda record: record.levelno >= logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escape sequences and deprecations inside robosuite and what it imports
        import robosuite
    if backend:
        os.environ["MUJOCO_GL"] = backend  # robosuite sets it to egl, which child processes would inherit
    return robosuite


def _controller(robosuite: Any) -> dict[str, Any]:
    """The default composite controller, reduced to the arm that a Panda has."""
    config = robosuite.load_composite_controller_config(controller="BASIC", robot="Panda")
    return {**config, "body_parts": {"right": config["body_parts"]["right"]}}


def _simulation(placement: float) -> Any:
    """Robosuite's Lift; the cube's size, drawn when the model is built, is the same in every process."""
    robosuite = _import_robosuite()
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
    with _global_seed(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return robosuite.make(
            "Lift",
            robots="Panda",
            controller_configs=_controller(robosuite),
            placement_initializer=sampler,
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            hard_reset=False,
            control_freq=FPS,
            ignore_done=True,  # the caller keeps the time limit
            renderer="mujoco",  # the default one builds a viewer
        )


class LiftEnv(TaskEnv):
    """S = 9, V = 10, A = 7; see the module. ``placement`` in metres; ``mass``, ``friction`` are factors."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": FPS}

    def __init__(self, placement: float = PLACEMENT, mass: float = 1.0, friction: float = 1.0) -> None:
        """Build the simulation; takes seconds."""
        super().__init__(9, 10, TASK.action_low, TASK.action_high)
        self._simulation = _simulation(placement)
        self._camera: Camera | None = None
        self._recorded: Mapping[str, Array] = {}
        self._alter(mass, friction)

    def _alter(self, mass: float, friction: float) -> None:
        """Scale the cube's mass and inertia, and the friction of everything that the cube touches.

        MuJoCo takes the larger friction of two touching shapes, so fingers and table change with the cube.
        """
        model, cube = self._simulation.sim.model, self._simulation.cube_body_id
        model.body_mass[cube] *= mass
        model.body_inertia[cube] *= mass
        for geom in range(model.ngeom):
            if (model.geom_id2name(geom) or "").endswith(GRIPPING_GEOMS):
                model.geom_friction[geom] *= friction

    def _start(self, seed: int) -> None:
        with _global_seed(seed):
            self._simulation.reset()
        # The reset's own observation mixes in readings from before it.
        self._recorded = self._simulation._get_observations(force_update=True)

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of 50 ms; success, the cube 4 cm above the table, ends the episode."""
        self._recorded = self._simulation.step(np.clip(np.asarray(action, np.float64), -1.0, 1.0))[0]
        success = bool(self._simulation._check_success())
        return self.observe(), float(success), success, False, {"is_success": success}

    def record(self) -> Observation:
        """Robomimic's keys, float32; ``object`` in the order cube_pos, cube_quat, gripper_to_cube_pos."""
        kept = {key: np.asarray(self._recorded[key], np.float32) for key in RECORDED_KEYS}
        parts = [self._recorded[key] for key in ("cube_pos", "cube_quat", "gripper_to_cube_pos")]
        return {**kept, "object": np.concatenate(parts).astype(np.float32)}

    def observe(self) -> Observation:
        """The present observation."""
        state, environment = observe(self.record())
        return {"agent_pos": state, "environment_state": environment}

    def simulator_state(self) -> Array:
        """MuJoCo's time, positions and velocities, (32,) float64."""
        return np.array(self._simulation.sim.get_state().flatten(), np.float64)

    def idle_action(self) -> Array:
        """No motion; the gripper keeps its command."""
        return np.zeros(7, np.float32)

    def render(self) -> Array:
        """The scene from the front, (256, 256, 3) uint8. Raises RenderingUnavailableError without OpenGL."""
        sim = self._simulation.sim
        if self._camera is None:
            self._camera = Camera(sim.model._model, "agentview")
        return self._camera.picture(sim.data._data)

    def close(self) -> None:
        """Free the simulation and the camera."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None


def observe(recorded: Mapping[str, Array]) -> tuple[Array, Array]:
    """Recorded robomimic observations (T, …) → state (T, 9), environment state (T, 10)."""
    return columns(recorded, STATE_KEYS, "lift"), columns(recorded, OBJECT_KEYS, "lift")


def make(dynamics: Dynamics | None = None, **options: Any) -> TaskEnv:
    """The environment; option ``placement``: metres from the centre, along x and y, for the cube's start."""
    refuse_unknown("lift", options, ("placement",))
    placement, dynamics = float(options.get("placement", PLACEMENT)), dynamics or Dynamics()
    if not 0 <= placement <= 0.2:
        raise ConfigError(f"task.options.placement = {placement}: expected 0 to 0.2 m; the arm reaches no further.")
    return disturb(LiftEnv(placement, dynamics.mass, dynamics.friction), dynamics)


def versions() -> dict[str, str]:
    """Releases of robosuite and MuJoCo."""
    return {name: metadata.version(name) for name in ("robosuite", "mujoco")}


def env_args(options: Mapping[str, Any]) -> dict[str, Any]:
    """Robomimic's description of the environment; ``placement`` is this project's own."""
    kwargs = {
        "robots": ["Panda"],
        "controller_configs": _controller(_import_robosuite()),
        "control_freq": FPS,
        "has_renderer": False,
        "has_offscreen_renderer": False,
        "use_camera_obs": False,
        "use_object_obs": True,
        "reward_shaping": False,
        "placement": float(options.get("placement", PLACEMENT)),
    }
    return {"env_name": "Lift", "type": 1, "env_version": metadata.version("robosuite"), "env_kwargs": kwargs}


def operators() -> Mapping[str, OperatorFactory]:
    """The pool of scripted operators."""
    return OPERATORS


TASK: Final = Task(
    name="lift",
    make=make,
    observe=observe,
    action_low=(-1.0,) * 7,
    action_high=(1.0,) * 7,
    versions=versions,
    env_args=env_args,
    operators=operators,
)
