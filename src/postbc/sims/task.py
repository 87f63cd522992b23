"""A task: an environment of low-dimensional observations, and how recorded demonstrations map onto them.

Shapes: ``S`` the robot's own state, ``V`` the state of the things around it, ``A`` an action, ``T`` recorded
steps.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from postbc.errors import ConfigError, DataError
from postbc.features import Features, size
from postbc.observation import ENVIRONMENT, INTERVENTION, PIXELS, RENAME, STATE, ObsShape
from postbc.sims.stepping import Stepping
from postbc.storage.manifest import sources

Array = NDArray[Any]
Observation = dict[str, Array]
SEED_LIMIT = 2**31  # seeds are drawn from [0, SEED_LIMIT)


@dataclass(frozen=True)
class Dynamics:
    """How a twin differs from the task's own physics.

    ``mass`` and ``friction`` are factors on the handled object and its contacts; ``latency`` is the number of
    control steps by which an action comes late; ``sensor_noise`` is the standard deviation of white noise on
    every observed number, ``bias`` that of an error that stays the same for an episode, as of a joint's calibration,
    and ``dropped`` the probability that a control step's observation, images and all, is that of the step before once more.
    Noise and bias are radians, metres or shares of 1, whatever multiple of these the task observes (0.01 on degrees is
    0.57, on % it is 1); of a number without a known unit they are in that number's own. All of it is drawn from generators
    that an episode's seed decides.
    """

    mass: float = 1.0
    friction: float = 1.0
    latency: int = 0
    sensor_noise: float = 0.0
    dropped: float = 0.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        if not (self.mass > 0 and self.friction > 0 and min(self.latency, self.sensor_noise, self.bias) >= 0):
            raise ConfigError(
                f"{self} is impossible: mass and friction are above 0, latency, noise and bias not below."
            )
        if not 0 <= self.dropped < 1:
            raise ConfigError(f"{self} is impossible: observations are dropped with a probability from 0 to below 1.")


class TaskEnv(gym.Env):
    """A task's environment: ``agent_pos`` (S,), ``environment_state`` (V,), float32; raw actions (A,).

    Where there is a camera, ``pixels`` (h, w, C), uint8, beside them.

    ``reset(seed=…)`` gives an initial state that depends on the seed alone. ``step`` returns a reward of 0 or
    1 unless the task says otherwise, ``terminated`` at success, or at a failure after which nothing can be done,
    never ``truncated`` (the caller keeps the time limit), and ``info["is_success"]``, which tells the two apart. A
    subclass implements what raises NotImplementedError here.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 20}
    render_mode = "rgb_array"

    def __init__(self, shape: ObsShape, low: Sequence[float], high: Sequence[float]) -> None:
        """Spaces of S and V unbounded values, and images; actions between ``low`` and ``high`` (A,)."""
        self.shape = shape
        sizes = {STATE: shape.state, ENVIRONMENT: shape.environment}
        boxes = {key: gym.spaces.Box(-np.inf, np.inf, (size,), np.float32) for key, size in sizes.items()}
        if shape.pixels:
            channels, height, width = shape.pixels
            boxes[PIXELS] = gym.spaces.Box(0, 255, (height, width, channels), np.uint8)
        self.observation_space = gym.spaces.Dict(boxes)
        self.action_space = gym.spaces.Box(np.array(low, np.float32), np.array(high, np.float32), dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; without a seed, one is drawn from the generator that the last seed started."""
        super().reset(seed=seed)
        self._seed = int(self.np_random.integers(SEED_LIMIT)) if seed is None else seed
        self._actions: list[Array] = []
        self._start(self._seed)
        return self.observe(), {"is_success": False}

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step under ``action`` (A,), clipped to the bounds."""
        self._actions.append(np.array(action, np.float64))
        return self._advance(action)

    def save(self) -> dict[str, Array]:
        """Everything that decides what happens next: the initial state's seed and the actions since, ``actions`` (t, A).

        No simulator here can be saved otherwise to the last bit: contacts, controllers and warm starts hide in each.
        """
        return {"seed": np.array(self._seed), "actions": np.array(self._actions).reshape(len(self._actions), -1)}

    def restore(self, saved: Mapping[str, Array]) -> Observation:
        """Go back to where :meth:`save` was called, exactly, by playing it again; takes t control steps."""
        observation, _ = self.reset(seed=int(saved["seed"]))
        for action in saved["actions"]:
            observation = self.step(action)[0]
        return observation

    def _advance(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """What :meth:`step` does."""
        raise NotImplementedError

    def _start(self, seed: int) -> None:
        """Put the task into the initial state that belongs to ``seed``."""
        raise NotImplementedError

    def observe(self) -> Observation:
        """The present observation, made of :meth:`record` by the same function that reads demonstrations."""
        raise NotImplementedError

    def record(self) -> Observation:
        """The present observation as demonstrations store it: one array a key of the recording format."""
        raise NotImplementedError

    def simulator_state(self) -> Array:
        """The simulator's own state, flat, float64."""
        raise NotImplementedError

    def idle_action(self) -> Array:
        """The action (A,) that asks the robot to stay where it is."""
        raise NotImplementedError


class Operator(Protocol):
    """Somebody who shows how a task is done."""

    def act(self, record: Mapping[str, Array]) -> Array:
        """The next action (A,), given the present recorded observation."""
        ...


OperatorFactory = Callable[[np.random.Generator, float], Operator]  # (source of imperfection, its scale)


def _no_operators() -> Mapping[str, OperatorFactory]:
    return {}


def _serial() -> Stepping:
    return Stepping.SERIAL


@dataclass(frozen=True)
class Task:
    """What the rest of the project knows of a task."""

    name: str
    make: Callable[..., TaskEnv]  # (dynamics: Dynamics | None = None, **TaskConfig.options)
    observe: Callable[[Mapping[str, Array]], tuple[Array, Array]]  # recorded (T, …) by key → (T, S), (T, V) float32
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    fps: int  # control steps a second
    horizon: int  # control steps that are enough
    success: str  # in words
    env_name: str  # the simulator's
    versions: Callable[
        [], dict[str, str]
    ]  # of the packages that decide what an episode looks like, the simulator first
    dense: bool = False  # whether the simulator's reward is another than success
    env_type: int = 2  # robomimic's: 1 robosuite, 2 Gymnasium
    env_kwargs: Callable[[Mapping[str, Any]], dict[str, Any]] = dict  # options → what the simulator is made with
    features: Features | None = None  # names and units; None: nameless numbers
    pixels: str | None = None  # key of the recorded camera images (T, h, w, C), uint8
    draw: Callable[[Mapping[str, Array]], Array] | None = None  # those images where a recording has none
    operators: Callable[[], Mapping[str, OperatorFactory]] = field(default=_no_operators)
    stepping: Callable[[], Stepping] = field(default=_serial)  # best for several side by side, as measured

    @property
    def code(self) -> str:
        """What decides how an episode goes: releases of the simulator, and the modules of this package."""
        return f"{self.versions()} {sources(Path(__file__).parent)}"

    @property
    def action_names(self) -> tuple[str, ...] | None:
        """What the numbers of an action are called, where they have names."""
        return tuple(one.name for one in self.features.action) if self.features else None

    def see(self, recorded: Mapping[str, Array]) -> tuple[Array, Array]:
        """States (T, S) and (T, V) of an episode that the task recorded, or a robot: it keeps what its policy read."""
        if STATE not in recorded or INTERVENTION not in recorded:
            return self.observe(recorded)
        state = recorded[STATE]
        return state, recorded.get(ENVIRONMENT, np.zeros((len(state), 0), np.float32))

    def images(self, recorded: Mapping[str, Array]) -> Array | None:
        """The camera images of an episode, recorded or drawn: (T, h, w, C) uint8; None for a task without a camera."""
        if self.pixels and PIXELS in recorded:  # a robot's
            return recorded[PIXELS]
        if self.pixels is None or self.pixels in recorded:
            return recorded[self.pixels] if self.pixels else None
        if self.draw is None:
            raise DataError(
                f"demonstrations of {self.name} need the images {self.pixels}; found {', '.join(recorded)}. {RENAME}"
            )
        return self.draw(recorded)

    def require_fit(self, recorded: Mapping[str, Array], action: int, shape: ObsShape) -> None:
        """Raise DataError unless an episode, of actions of so many numbers, is of the environment's sizes ``shape``."""
        states, pixels = self.see(recorded), self.images({key: values[:1] for key, values in recorded.items()})
        found = [values.shape[1] for values in states]
        if found != [shape.state, shape.environment] or action != len(self.action_low):
            raise DataError(
                f"demonstrations hold {found[0]} + {found[1]} observed numbers and actions of {action}; {self.name} observes "
                f"{shape.state} + {shape.environment} and takes {len(self.action_low)}."
            )
        shown = shape.pixels and (*shape.pixels[1:], shape.pixels[0])
        if pixels is not None and shown and pixels.shape[1:] != shown:
            raise DataError(
                f"{self.pixels} is {pixels.shape[1]} x {pixels.shape[2]} pixels of {pixels.shape[3]}, {self.name} shows "
                f"{shown[0]} x {shown[1]} of {shown[2]}: ingest.image_size: [{shown[0]}, {shown[1]}] scales recordings to that."
            )

    def describe(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Robomimic's ``env_args`` of the task with ``options``, and ``versions`` beside them; JSON-able."""
        versions, kwargs = self.versions(), self.env_kwargs(options)
        simulator = {"env_name": self.env_name, "type": self.env_type, "env_version": next(iter(versions.values()))}
        return {**simulator, "env_kwargs": kwargs, "versions": versions}


def releases(*packages: str) -> Callable[[], dict[str, str]]:
    """``Task.versions`` of installed packages."""
    return lambda: {package: metadata.version(package) for package in packages}


def columns(recorded: Mapping[str, Array], keys: Sequence[str], task: str) -> Array:
    """Concatenate ``recorded[key]`` (T, …) of each key along the last axis: (T, sum), float32.

    Raises DataError that names the keys that are missing.
    """
    missing = [key for key in keys if key not in recorded]
    if missing:
        raise DataError(
            f"demonstrations of {task} need the observation keys {', '.join(keys)}; missing "
            f"{', '.join(missing)}, found {', '.join(sorted(recorded)) or 'none'}. {RENAME}"
        )
    return np.concatenate([np.asarray(recorded[key], np.float32) for key in keys], axis=-1)


def refuse_unknown(task: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise ConfigError if ``options`` names something that the task has not."""
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(
            f"task.options of {task}: {', '.join(unknown)} unknown; there is {', '.join(known) or 'none'}."
        )


class _Disturbed(TaskEnv):
    """Another environment whose actions come late and whose sensors are noisy, biased and sometimes silent."""

    def __init__(self, env: TaskEnv, dynamics: Dynamics, features: Features | None) -> None:
        self.env, self.dynamics, self.shape = env, dynamics, env.shape
        self.metadata = env.metadata  # type: ignore[misc] # as Gymnasium's own wrappers do
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._pending: deque[Array] = deque()
        named = {STATE: features.state, ENVIRONMENT: features.environment} if features else {}
        self._units = {key: np.array([size(one.unit) for one in own]) for key, own in named.items()}

    def _start(self, seed: int) -> None:
        self.env.reset(seed=seed)
        self._noise = np.random.default_rng(seed)
        self._drops, biases = (np.random.default_rng([seed, stream]) for stream in (1, 2))
        sizes = {STATE: self.shape.state, ENVIRONMENT: self.shape.environment}
        self._bias = {key: self.dynamics.bias * biases.standard_normal(count) for key, count in sizes.items()}
        self._pending = deque([self.env.idle_action()] * self.dynamics.latency)

    def _sense(self, observation: Observation) -> Observation:
        std = self.dynamics.sensor_noise
        if std == self.dynamics.bias == 0:
            return observation
        sensed = {}  # images stay as they are: noise of a camera is not simulated
        for key in (STATE, ENVIRONMENT):
            value = observation[key]
            error = self._bias[key] + (std * self._noise.standard_normal(value.shape) if std else 0.0)
            sensed[key] = (value + self._units.get(key, 1.0) * error).astype(np.float32)
        return {**observation, **sensed}

    def observe(self) -> Observation:
        self._seen = self._sense(self.env.observe())
        return self._seen

    def _advance(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._pending.append(np.array(action))
        observation, reward, terminated, truncated, info = self.env.step(self._pending.popleft())
        if self._drops.random() >= self.dynamics.dropped:
            self._seen = self._sense(observation)
        return self._seen, reward, terminated, truncated, info

    def record(self) -> Observation:
        return self.env.record()

    def simulator_state(self) -> Array:
        return self.env.simulator_state()

    def idle_action(self) -> Array:
        return self.env.idle_action()

    def render(self) -> Array:
        return np.asarray(self.env.render())

    def close(self) -> None:
        self.env.close()


def disturb(env: TaskEnv, dynamics: Dynamics, features: Features | None = None) -> TaskEnv:
    """``env`` with the latency and the sensors of ``dynamics``; ``env`` itself when nothing is wrong with them.

    ``features`` say in which units ``env`` observes. Mass and friction are the task's own affair: its constructor applies them.
    """
    wrong = dynamics.latency or dynamics.sensor_noise or dynamics.dropped or dynamics.bias
    return _Disturbed(env, dynamics, features) if wrong else env


def maker(
    task: str, build: Callable[..., TaskEnv], *known: str, features: Features | None = None
) -> Callable[..., TaskEnv]:
    """``Task.make`` of an environment ``build(mass=…, friction=…, **options)`` with the ``known`` options."""

    def make(dynamics: Dynamics | None = None, **options: Any) -> TaskEnv:
        refuse_unknown(task, options, known)
        dynamics = dynamics or Dynamics()
        return disturb(build(mass=dynamics.mass, friction=dynamics.friction, **options), dynamics, features)

    return make
