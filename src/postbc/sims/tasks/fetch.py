"""Fetch pick-and-place (gymnasium-robotics): an arm takes a block from the table to a goal, sometimes in the air.

Actions (A = 4) in [-1, 1]: change of the tool's position (1 is 5 cm), then the fingers (+1 opens). 25 Hz.
"""

import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from typing import Any, ClassVar, Final

import numpy as np

from postbc.observation import ObsShape
from postbc.sims.demonstrators.hand import pool
from postbc.sims.demonstrators.plan import CLOSE, Aim, Frame, Job, Sight
from postbc.sims.demonstrators.style import Style
from postbc.sims.stepping import Stepping
from postbc.sims.task import Array, Observation, Task, columns, maker, releases
from postbc.sims.tasks.mujoco_env import MujocoTaskEnv, alter

with warnings.catch_warnings(), redirect_stderr(StringIO()):  # notices about other environments of the package
    warnings.simplefilter("ignore")
    from gymnasium_robotics.envs.fetch.pick_and_place import MujocoFetchPickAndPlaceEnv

ROBOT: Final = (*range(3), 9, 10, *range(20, 25))  # S = 10 of 25 observed numbers: tool, fingers, their velocities
BLOCK: Final = tuple(i for i in range(25) if i not in ROBOT)  # with the goal V = 18
MARGIN: Final = 1.2  # on the distance that is success: the block settles by millimetres
LOW, HIGH = (-1.0,) * 4, (1.0,) * 4


class FetchEnv(MujocoTaskEnv):
    """S = 10, V = 18, A = 4; see the module. ``mass`` and ``friction`` are factors on what is not the robot."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 25}
    camera = "external_camera_0"

    def __init__(self, mass: float = 1.0, friction: float = 1.0) -> None:
        """Build the simulation."""
        super().__init__(ObsShape(len(ROBOT), len(BLOCK) + 3), LOW, HIGH)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._simulation = MujocoFetchPickAndPlaceEnv()
        alter(self._simulation.model, "robot0:base_link", mass, friction)
        self._seen: Mapping[str, Array] = {}

    def _start(self, seed: int) -> None:
        """The block is never at its goal already, as it is in one of thirty of the simulator's own initial states."""
        self._seen, _ = self._simulation.reset(seed=seed)
        while self._distance() < MARGIN * self._simulation.distance_threshold:
            self._simulation.goal = self._simulation._sample_goal()
            self._seen = self._simulation._get_obs()

    def _distance(self) -> float:
        """Metres from the block to its goal."""
        return float(np.linalg.norm(self._seen["achieved_goal"] - self._seen["desired_goal"]))

    def _advance(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of 40 ms; success, the block within 5 cm of the goal, ends the episode."""
        self._seen, _, _, _, info = self._simulation.step(np.clip(np.asarray(action, np.float64), -1.0, 1.0))
        success = bool(info["is_success"])
        return self.observe(), float(success), success, False, {"is_success": success}

    def record(self) -> Observation:
        """Keys ``observation`` (25,) and ``desired_goal`` (3,), float32."""
        return {key: np.asarray(self._seen[key], np.float32) for key in ("observation", "desired_goal")}

    def observe(self) -> Observation:
        """The present observation."""
        state, environment = observe(self.record())
        return {"agent_pos": state, "environment_state": environment}

    def simulator_state(self) -> Array:
        """Time, positions, velocities and the goal, float64."""
        return np.concatenate([super().simulator_state(), self._simulation.goal])

    def idle_action(self) -> Array:
        """No motion."""
        return np.zeros(4, np.float32)

    def physics(self) -> tuple[Any, Any]:
        """MuJoCo's model and data."""
        return self._simulation.model, self._simulation.data


def see(record: Mapping[str, Array]) -> Sight:
    """What an operator sees; the block is taken to lie square, since the hand can not be turned."""
    observation = np.asarray(record["observation"], np.float64)
    return Sight(
        tool=observation[:3],
        rotation=np.eye(3),
        object=np.array([*observation[3:6], 0.0, 0.0, 0.0, 1.0]),
        fingers=float(observation[9:11].max()),
        joints=np.zeros(0),
        goal=np.asarray(record["desired_goal"], np.float64),
    )


def carry(style: Style, generator: np.random.Generator) -> list[Aim]:
    """Straight to the goal, or by a detour, or past it and back."""
    chance, plan = generator.random(2), list[Aim]()
    detour, past = generator.uniform(-0.1, 0.1, 3), generator.uniform(-0.05, 0.05, 3)
    for happens, offset in ((chance[0] < style.wander, detour), (chance[1] < style.overshoot, past)):
        if happens:
            x, y, z = (float(value) for value in offset)
            plan.append(Aim((x, y, abs(z)), 0.03, gripper=CLOSE, patience=20, frame=Frame.GOAL, holding=True))
    return [*plan, Aim((0.0, 0.0, 0.0), 0.005, gripper=CLOSE, patience=50, frame=Frame.GOAL, holding=True)]


JOB: Final = Job(see=see, turns=False, closing=-1.0, face=None, empty=0.015, carry=carry)


def observe(recorded: Mapping[str, Array]) -> tuple[Array, Array]:
    """Recorded ``observation`` (T, 25), ``desired_goal`` (T, 3) → robot (T, 10), block and goal (T, 18)."""
    observation = columns(recorded, ("observation",), "fetch_pick_place")
    goal = columns(recorded, ("desired_goal",), "fetch_pick_place")
    return observation[..., ROBOT], np.concatenate([observation[..., BLOCK], goal], axis=-1)


def task(name: str) -> Task:
    """The task."""
    operators = pool(JOB)
    return Task(
        name=name,
        make=maker(name, FetchEnv),
        observe=observe,
        action_low=LOW,
        action_high=HIGH,
        fps=25,
        horizon=100,
        success="the block is within 5 cm of the goal",
        env_name="FetchPickAndPlace-v4",
        versions=lambda: {**releases("gymnasium-robotics", "mujoco")(), "fetch": "2"},  # of _start
        operators=lambda: operators,
        stepping=lambda: Stepping.PROCESSES,
    )
