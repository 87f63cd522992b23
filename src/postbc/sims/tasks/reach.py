"""Reach: a point walks round a disc to a goal. A fast toy for tests, with two ways to go.

The plane is [-1, 1]², the point starts at the left, the goal lies at the right and the disc between them. An
action is a velocity in [-1, 1]² that moves the point by SPEED metres a step; the disc's rim turns it aside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from postbc.observation import ObsShape
from postbc.sims.task import Array, Observation, OperatorFactory, Task, TaskEnv, columns, maker

SPEED: Final = 0.08  # metres a control step at full command
RADIUS: Final = 0.08  # metres from the goal that count as reached
DISC: Final = 0.35  # metres, radius of the obstacle at the origin
DETOUR: Final = 0.6  # metres above or below the origin where operators pass the disc
PIXELS: Final = 256
LOW, HIGH = (-1.0, -1.0), (1.0, 1.0)


class ReachEnv(TaskEnv):
    """S = 2: position; V = 2: goal; A = 2: velocity command. Mass makes the point sluggish, friction slow."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, mass: float = 1.0, friction: float = 1.0) -> None:
        """``mass`` and ``friction`` are factors."""
        super().__init__(ObsShape(2, 2), LOW, HIGH)
        self._gain, self._speed = min(1.0, 1.0 / mass), SPEED / friction
        self.position: Array = np.zeros(2)
        self.goal: Array = np.zeros(2)
        self._velocity: Array = np.zeros(2)

    def _start(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.position = generator.uniform((-0.9, -0.3), (-0.7, 0.3))
        self.goal = generator.uniform((0.7, -0.3), (0.9, 0.3))
        self._velocity = np.zeros(2)

    def _advance(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move; success within RADIUS of the goal ends the episode."""
        command = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._velocity = self._velocity + self._gain * (self._speed * command - self._velocity)
        position = np.clip(self.position + self._velocity, -1.0, 1.0)
        distance = float(np.linalg.norm(position))
        self.position = position * (DISC / distance) if 0 < distance < DISC else position
        success = bool(np.linalg.norm(self.goal - self.position) < RADIUS)
        return self.observe(), float(success), success, False, {"is_success": success}

    def record(self) -> Observation:
        """Keys ``position`` (2,) and ``goal`` (2,), metres."""
        return {"position": self.position.astype(np.float32), "goal": self.goal.astype(np.float32)}

    def observe(self) -> Observation:
        """The present observation."""
        state, environment = observe(self.record())
        return {"agent_pos": state, "environment_state": environment}

    def simulator_state(self) -> Array:
        """Position, velocity, goal: (6,)."""
        return np.concatenate([self.position, self._velocity, self.goal])

    def idle_action(self) -> Array:
        """No velocity."""
        return np.zeros(2, np.float32)

    def render(self) -> Array:
        """Point blue, goal green, disc grey, on white: (256, 256, 3) uint8."""
        axis = np.linspace(-1, 1, PIXELS)
        pixels = np.stack(np.meshgrid(axis, -axis), axis=-1)
        frame = np.full((PIXELS, PIXELS, 3), 255, np.uint8)
        for centre, radius, colour in (
            (np.zeros(2), DISC, (160, 160, 160)),
            (self.goal, RADIUS, (80, 200, 120)),
            (self.position, 0.04, (65, 105, 225)),
        ):
            frame[np.linalg.norm(pixels - centre, axis=-1) < radius] = colour
        return frame


@dataclass
class _Walker:
    """Passes the disc on one side, with a slowly changing error on the velocity."""

    generator: np.random.Generator
    scale: float
    side: float  # +1 above, -1 below

    def __post_init__(self) -> None:
        self._error: Array = np.zeros(2)
        self._pace = 1.0 - 0.4 * min(1.0, self.scale) * self.generator.random()
        self._passed = False

    def act(self, record: Mapping[str, Array]) -> Array:
        """A velocity towards the detour until the disc is passed, then towards the goal."""
        position = np.asarray(record["position"], np.float64)
        self._passed = self._passed or bool(position[0] > 0)
        target = np.asarray(record["goal"]) if self._passed else np.array([0.1, self.side * DETOUR])
        way = (target - position) / SPEED
        way *= self._pace / max(1.0, float(np.abs(way).max()))
        self._error = 0.8 * self._error + 0.2 * self.scale * self.generator.standard_normal(2)
        return np.clip(way + self._error, -1.0, 1.0).astype(np.float32)


def _above(generator: np.random.Generator, scale: float) -> _Walker:
    return _Walker(generator, scale, 1.0)


def _below(generator: np.random.Generator, scale: float) -> _Walker:
    return _Walker(generator, scale, -1.0)


def operators() -> Mapping[str, OperatorFactory]:
    """One operator a way round the disc."""
    return {"above": _above, "below": _below}


def observe(recorded: Mapping[str, Array]) -> tuple[Array, Array]:
    """Recorded ``position`` and ``goal`` (T, 2) → state (T, 2), environment state (T, 2)."""
    return columns(recorded, ("position",), "reach"), columns(recorded, ("goal",), "reach")


def task(name: str) -> Task:
    """The task."""
    return Task(
        name=name,
        make=maker(name, ReachEnv),
        observe=observe,
        action_low=LOW,
        action_high=HIGH,
        fps=10,
        horizon=40,
        success="the point is within 8 cm of the goal",
        env_name="Reach",
        versions=lambda: {"postbc-reach": "1"},  # raise it when an episode would look different
        operators=operators,
    )
