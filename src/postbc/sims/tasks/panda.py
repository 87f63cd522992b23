"""Robosuite's single-arm scenes: a Panda under operational-space control, 20 Hz, low-dimensional state, sparse success.

Actions (A = 7) in [-1, 1]: change of the tool's position (1 is 5 cm) and rotation vector (1 is 0.5 rad) in the base
frame, then the gripper (-1 opens, +1 closes). The state is assembled by key, since robosuite releases order it
differently. A control step is compiled (:mod:`postbc.sims.tasks.osc`) where the installed robosuite is the one that it copies.
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from typing import Any, ClassVar, Final

import numpy as np

from postbc.errors import SimulatorWarning
from postbc.observation import ObsShape
from postbc.sims.rendering import choose_backend
from postbc.sims.stepping import Stepping
from postbc.sims.task import Array, Observation, OperatorFactory, Task, columns, maker, releases
from postbc.sims.tasks.mujoco_env import MujocoTaskEnv

STATE_KEYS: Final = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")  # S = 3 + 4 + 2
RECORDED_KEYS: Final = (*STATE_KEYS, "robot0_joint_pos")
SUPPORTS: Final = ("table", "bin1", "bin2", "peg1")  # bodies that hold up what is handled
ROBOSUITE: Final = "1.5.1"  # the release whose controller postbc.sims.tasks.osc copies
FPS: Final = 20
LOW, HIGH = (-1.0,) * 7, (1.0,) * 7


@dataclass(frozen=True)
class Scene:
    """One of robosuite's environments, and what of it is observed."""

    suite: str  # robosuite's
    handled: str  # robosuite's name of the object
    sensors: tuple[str, ...]  # make up the recorded key ``object``, in robomimic's order
    object_dim: int  # V
    horizon: int
    success: str
    readings: int = 1  # until all sensors are up to date: robosuite reads some before what they are made of
    options: Mapping[str, Any] = field(default_factory=dict)  # of the task, with their defaults
    arguments: Callable[..., dict[str, Any]] = dict  # options → arguments of robosuite.make; checks them


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, from which robosuite 1.5.1 draws; afterwards put its state back."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


def import_robosuite() -> Any:
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


def _simulation(scene: Scene, options: Mapping[str, Any]) -> Any:
    """Robosuite's environment; object sizes, drawn when the model is built, are the same in every process."""
    robosuite = import_robosuite()
    with _global_seed(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return robosuite.make(
            scene.suite,
            robots="Panda",
            controller_configs=_controller(robosuite),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            hard_reset=False,
            control_freq=FPS,
            ignore_done=True,  # the caller keeps the time limit
            renderer="mujoco",  # the default one builds a viewer
            **scene.arguments(**options),
        )


def _copied(simulation: Any) -> bool:
    """Whether :mod:`postbc.sims.tasks.osc` may step this simulation; warns once where it may not."""
    version = metadata.version("robosuite")
    if version != ROBOSUITE:
        return _refuse(f"robosuite {version} is installed, the compiled controller is that of {ROBOSUITE}")
    from postbc.sims.tasks.osc import difference

    other = difference(simulation)
    return not other or _refuse(f"the controller has {other}")


@cache
def _refuse(reason: str) -> bool:
    warnings.warn(f"stepping with robosuite's own controller, about 6 times slower: {reason}", SimulatorWarning, 3)
    return False


class PandaEnv(MujocoTaskEnv):
    """S = 9, A = 7, V by scene; see the module. ``mass`` and ``friction`` are factors on what is handled."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": FPS}

    def __init__(
        self,
        scene: Scene,
        mass: float = 1.0,
        friction: float = 1.0,
        compiled: bool = True,
        **options: Any,
    ) -> None:
        """Build the simulation with the scene's ``options``; takes seconds.

        ``compiled`` False steps with robosuite's own controller.
        """
        super().__init__(ObsShape(9, scene.object_dim), LOW, HIGH)
        self.scene = scene
        self._simulation = _simulation(scene, {**scene.options, **options})
        self.compiled = compiled and _copied(self._simulation)
        self._recorded: Mapping[str, Array] = {}
        self._alter(mass, friction)

    def _alter(self, mass: float, friction: float) -> None:
        """Scale the object's mass and inertia, and the friction of everything that the object touches.

        MuJoCo takes the larger friction of two touching shapes, so fingers and supports change with the object.
        """
        model = self._simulation.sim.model
        handled = model.body_name2id(f"{self.scene.handled}_main")
        model.body_mass[handled] *= mass
        model.body_inertia[handled] *= mass
        for geom in range(model.ngeom):
            body = model.body_id2name(model.geom_bodyid[geom])
            pad = (model.geom_id2name(geom) or "").endswith("_pad_collision")
            if pad or body in (f"{self.scene.handled}_main", *SUPPORTS):
                model.geom_friction[geom] *= friction

    def _start(self, seed: int) -> None:
        with _global_seed(seed):
            self._simulation.reset()
        if self.compiled:
            from postbc.sims.tasks.osc import CompiledControl

            self._control = CompiledControl(self._simulation)
        self._see()

    def _see(self) -> None:
        # Forced: what a reset returns mixes in readings from before it, what a step returns is as old as the sensors'
        # own clocks say, which a forced reading shifts, and a compiled step takes no readings.
        for _ in range(self.scene.readings):
            self._recorded = self._simulation._get_observations(force_update=True)

    def _advance(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of 50 ms; success, as robosuite defines it, ends the episode."""
        command = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        (self._control if self.compiled else self._simulation).step(command)
        self._see()
        success = bool(self._simulation._check_success())
        return self.observe(), float(success), success, False, {"is_success": success}

    def record(self) -> Observation:
        """Robomimic's keys, float32; ``object`` in the order of the scene's sensors."""
        kept = {key: np.asarray(self._recorded[key], np.float32) for key in RECORDED_KEYS}
        parts = [self._recorded[key] for key in self.scene.sensors]
        return {**kept, "object": np.concatenate(parts).astype(np.float32)}

    def observe(self) -> Observation:
        """The present observation."""
        state, environment = observe(self.record(), self.scene.suite)
        return {"agent_pos": state, "environment_state": environment}

    def idle_action(self) -> Array:
        """No motion; the gripper keeps its command."""
        return np.zeros(7, np.float32)

    def physics(self) -> tuple[Any, Any]:
        """MuJoCo's model and data."""
        return self._simulation.sim.model._model, self._simulation.sim.data._data


def observe(recorded: Mapping[str, Array], task: str) -> tuple[Array, Array]:
    """Recorded robomimic observations (T, …) → state (T, 9), environment state (T, V)."""
    return columns(recorded, STATE_KEYS, task), columns(recorded, ("object",), task)


def _stepping() -> Stepping:
    """A compiled step holds no GIL; robosuite's own holds it nearly always."""
    return Stepping.THREADS if metadata.version("robosuite") == ROBOSUITE else Stepping.PROCESSES


def panda_task(name: str, scene: Scene, operators: Mapping[str, OperatorFactory]) -> Task:
    """``scene`` as the task called ``name``."""

    def env_kwargs(options: Mapping[str, Any]) -> dict[str, Any]:
        """As robomimic records them; the task's options are this project's own."""
        return {
            "robots": ["Panda"],
            "controller_configs": _controller(import_robosuite()),
            "control_freq": FPS,
            "has_renderer": False,
            "has_offscreen_renderer": False,
            "use_camera_obs": False,
            "use_object_obs": True,
            "reward_shaping": False,
            **scene.options,
            **options,
        }

    return Task(
        name=name,
        make=maker(name, partial(PandaEnv, scene), *scene.options),
        observe=lambda recorded: observe(recorded, name),
        action_low=LOW,
        action_high=HIGH,
        fps=FPS,
        horizon=scene.horizon,
        success=scene.success,
        env_name=scene.suite,
        versions=releases("robosuite", "mujoco"),
        env_type=1,
        env_kwargs=env_kwargs,
        operators=lambda: operators,
        stepping=_stepping,
    )
