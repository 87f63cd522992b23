"""MetaWorld's 50 tasks: a Sawyer moves its hand and two fingers, 80 Hz in name, low-dimensional state with the goal.

Actions (A = 4) in [-1, 1]: change of the hand's position (1 is 1 cm), then the fingers' effort (+1 closes). Initial
states are drawn from the continuous ranges of each task, not from the 50 fixed ones of MetaWorld's benchmark.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
from metaworld.policies import ENV_POLICY_MAP

from postbc.observation import ObsShape
from postbc.sims.demonstrators.hand import ShakyHand
from postbc.sims.demonstrators.style import POOL, Style
from postbc.sims.stepping import Stepping
from postbc.sims.task import Array, Observation, Operator, OperatorFactory, Task, columns, maker, releases
from postbc.sims.tasks.mujoco_env import MujocoTaskEnv, alter
from postbc.sims.tasks.names import PREFIX

STATE: Final = 4  # S: the hand's position and the fingers' opening; the rest, with the goal, is V = 35
SIZE: Final = 39
STEADY: Final = 0.4  # factor on imperfection and lag: the policies decide by thresholds of 1 or 2 cm, in steps of 1 cm
LOW, HIGH = (-1.0,) * 4, (1.0,) * 4


class MetaWorldEnv(MujocoTaskEnv):
    """S = 4, V = 35, A = 4; see the module. ``mass`` and ``friction`` are factors on what is not the robot."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 80}
    camera = "corner2"

    def __init__(self, name: str, mass: float = 1.0, friction: float = 1.0) -> None:
        """Build the simulation of task ``name``, without ``metaworld/``."""
        super().__init__(ObsShape(STATE, SIZE - STATE), LOW, HIGH)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MetaWorld lets the spaces of its base class be replaced
            self._simulation: Any = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{name}-v3-goal-observable"](seed=0)
        self._simulation._freeze_rand_vec = False
        self._simulation.seeded_rand_vec = True
        self._simulation.max_path_length = np.iinfo(np.int64).max  # the caller keeps the time limit
        alter(self._simulation.model, "base", mass, friction)
        self._observation: Array = np.zeros(SIZE)

    def _start(self, seed: int) -> None:
        self._simulation.seed(seed)
        self._observation = self._simulation.reset()[0]

    def _advance(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of 12.5 ms; success, as MetaWorld defines it, ends the episode."""
        command = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        self._observation, _, _, _, info = self._simulation.step(command)
        success = bool(info["success"])
        return self.observe(), float(success), success, False, {"is_success": success}

    def record(self) -> Observation:
        """Key ``observation`` (39,), float32: 18 now, 18 one step before, the goal's position."""
        return {"observation": np.asarray(self._observation, np.float32)}

    def observe(self) -> Observation:
        """The present observation."""
        state, environment = observe(self.record())
        return {"agent_pos": state, "environment_state": environment}

    def idle_action(self) -> Array:
        """No motion, no effort."""
        return np.zeros(4, np.float32)

    def physics(self) -> tuple[Any, Any]:
        """MuJoCo's model and data."""
        return self._simulation.model, self._simulation.data


class ExpertOperator:
    """MetaWorld's scripted policy in the hands of a person: opening moves, pauses and slips, then its closed loop.

    A slip is a push in some direction for a few steps, wherever the hand is; the policy sees what it led to.
    """

    def __init__(self, name: str, style: Style, generator: np.random.Generator, scale: float) -> None:
        """Draw when what happens; ``scale`` multiplies the style's imperfections."""
        self._expert = ENV_POLICY_MAP[f"{name}-v3"]()
        self.style = replace(style.scaled(STEADY * scale), lag=STEADY * style.lag, pace=max(style.pace, 0.7))
        self._hand = ShakyHand(self.style, generator, 3)
        self._pushes = list(self._openings(generator)) + list(self._slips(generator))
        self._step = 0

    def _openings(self, generator: np.random.Generator) -> list[tuple[range, Array]]:
        """Which steps are played with which command instead of the policy's, at the beginning."""
        style, chance = self.style, generator.random(2)
        if style.high:
            return [(range(int(100 * style.high)), np.array([0.0, 0.0, 0.6]))]
        if style.side:
            side = np.sign(generator.random() - 0.5)
            return [(range(int(100 * style.side)), np.array([0.7 * side, 0.0, 0.0]))]
        if chance[0] < style.wander:
            return [(range(int(generator.integers(5, 15))), generator.uniform(-0.8, 0.8, 3))]
        return []

    def _slips(self, generator: np.random.Generator) -> list[tuple[range, Array]]:
        style, chance = self.style, generator.random(3)
        begins, spans = generator.integers(5, 60, 3), generator.integers(3, 9, 3)
        commands = [np.zeros(3), generator.uniform(-0.6, 0.6, 3), generator.uniform(-0.4, 0.4, 3)]
        odds = (style.pause, style.miss, style.overshoot)
        return [
            (range(int(begin), int(begin + span)), command)
            for begin, span, command, drawn, odd in zip(begins, spans, commands, chance, odds, strict=True)
            if drawn < odd
        ]

    def act(self, record: Mapping[str, Array]) -> Array:
        """The next action (4,)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # clipping that the policies announce
            wanted = np.asarray(self._expert.get_action(np.asarray(record["observation"], np.float64)), np.float64)
        motion, pace = wanted[:3], self.style.pace
        motion = motion * (pace / max(pace, float(np.abs(motion).max())))
        pushed = [command for steps, command in self._pushes if self._step in steps]
        self._step += 1
        return self._hand(pushed[0] if pushed else motion, float(wanted[3]))


def observe(recorded: Mapping[str, Array]) -> tuple[Array, Array]:
    """Recorded ``observation`` (T, 39) → hand and fingers (T, 4), the rest with the goal (T, 35)."""
    observation = columns(recorded, ("observation",), "metaworld")
    return observation[..., :STATE], observation[..., STATE:]


def _operator(name: str, style: Style, generator: np.random.Generator, scale: float) -> Operator:
    return ExpertOperator(name, style, generator, scale)


def task(name: str) -> Task:
    """The task ``metaworld/<name>``."""
    short = name.removeprefix(PREFIX)

    operators: dict[str, OperatorFactory] = {who: partial(_operator, short, style) for who, style in POOL.items()}
    return Task(
        name=name,
        make=maker(name, partial(MetaWorldEnv, short)),
        observe=observe,
        action_low=LOW,
        action_high=HIGH,
        fps=80,
        horizon=500,
        success="MetaWorld's own, by task",
        env_name=f"{short}-v3",
        versions=releases("metaworld", "mujoco"),
        operators=lambda: operators,
        stepping=lambda: Stepping.PROCESSES,
    )
