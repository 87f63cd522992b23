"""A LeRobot robot as a task environment: the policy's numbers, the operator, the recorder, the control period."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from postbc.config import TaskConfig
from postbc.config.robot import SIMULATED, RobotConfig
from postbc.errors import ConfigError, RobotError, StoppedError
from postbc.features import Features
from postbc.observation import ENVIRONMENT, PIXELS, STATE, ObsShape, scaled
from postbc.robots.clock import Clock, SimulatedClock, WallClock
from postbc.robots.guard import ROUNDING
from postbc.robots.mapping import Robot, match, require_agreement
from postbc.robots.operator import Verdict, make_operator
from postbc.robots.recorder import Recorder
from postbc.robots.safe import Body, SafeRobot, is_velocity, make_robot
from postbc.sims import get_task
from postbc.sims.task import Observation, TaskEnv

SHOWN = 10  # control steps after which the operator sees new facts


class RobotEnv(TaskEnv):
    """One robot; ``step`` sends an action, waits for the control period and observes. The caller connects the robot.

    ``features`` are the policy's, and ``picture`` (height, width) what its images are scaled to, as ingest.image_size does
    it with demonstrations. Raises ConfigError or MismatchError where the robot has not what it reads or commands.
    """

    def __init__(
        self,
        body: Body,
        config: RobotConfig,
        fps: float,
        features: Features | None = None,
        picture: tuple[int, int] | None = None,
    ) -> None:
        seen = body.observation_features
        numbers = [name for name, kind in seen.items() if not isinstance(kind, tuple)]
        own = (None, None, None) if features is None else (features.state, features.environment, features.action)
        self.state = match("state", config.state, own[0], Robot(numbers, body.simulated), f"{STATE}.")
        self.environment = match(
            "environment_state", config.environment_state, own[1], Robot(numbers, body.simulated), f"{ENVIRONMENT}."
        )
        self.actions = match("action", config.action, own[2], Robot(list(body.action_features), body.simulated), "")
        if sorted(self.actions.features) != sorted(body.action_features):
            raise ConfigError(
                f"{config.type} takes {', '.join(body.action_features)}; finetune_robot.robot.action gives "
                f"{', '.join(self.actions.features)}."
            )
        require_agreement((self.state, self.environment, self.actions), config)
        body.guarded(self.actions.features)
        image = seen.get(config.camera)
        if image is float:
            raise ConfigError(
                f"finetune_robot.robot.camera = {config.camera!r} is a number; {config.type} has no such image."
            )
        self.camera: str | None = config.camera if image else None
        self._recorded: tuple[int, int] = image[:2] if image else (0, 0)
        self._picture: tuple[int, int] = picture or self._recorded
        pixels = (image[2], *self._picture) if image else None
        shape = ObsShape(len(self.state.features), len(self.environment.features), pixels)
        low, high = (np.asarray(side, float) * self.actions.scale for side in (config.guard.low, config.guard.high))
        super().__init__(shape, low.tolist(), high.tolist())
        self.metadata = {**self.metadata, "render_fps": fps}  # type: ignore[misc] # a video plays at this rate
        self.body, self.config, self.period = body, config, 1 / fps
        self.recorder: Recorder | None = None
        self.operator = make_operator(body, config.operator, body.simulated)
        self.clock: Clock = WallClock(1 / fps) if body.waits else SimulatedClock()
        self._episodes, self._successes, self._steps, self._moving, self._succeeded = 0, 0, 0, False, False
        self._last: np.ndarray | None = None

    def _start(self, seed: int) -> None:
        self.rest()
        if self.recorder:
            self.recorder.end()
        self._episodes, self._steps, self._last, self._succeeded = self._episodes + 1, 0, None, False
        self.operator.prepare(self._episodes, seed)
        if self.recorder:
            self.recorder.begin(seed)

    def _go(self) -> None:
        self.body.begin()
        self.clock.start()
        self._moving = True

    def rest(self) -> bool:
        """The episode is over: the robot stays where it is. Whether it was called a success only after its last step."""
        if not self._moving:
            return False
        self._moving = False
        self.body.rest()
        self.operator.over()
        late = self.operator.verdict() is Verdict.SUCCESS and not self._succeeded
        if late:
            self._note_success()
        return late

    def _note_success(self) -> None:
        self._succeeded, self._successes = True, self._successes + 1
        if self.recorder:
            self.recorder.succeed()

    def observe(self) -> Observation:
        """What the robot's features say now, in the policy's units."""
        self._raw = raw = self.body.observe()
        seen = {STATE: self.state.read(raw), ENVIRONMENT: self.environment.read(raw)}
        for channels, numbers in zip((self.state, self.environment), seen.values(), strict=True):
            if not np.isfinite(numbers).all():
                lost = channels.features[int(np.argmin(np.isfinite(numbers)))]
                raise RobotError(f"the robot says that {lost} is {raw[lost]}: not finite; it was stopped.")
        found: Observation = {key: numbers.astype(np.float32) for key, numbers in seen.items()}
        if self.camera:
            image = np.asarray(raw[self.camera])
            if image.dtype != np.uint8:  # such as a depth camera's millimetres, which would be cut off
                raise RobotError(f"{self.camera} gives {image.dtype}; images of 8 bits a channel are read.")
            found[PIXELS] = scaled(image, self._picture)
        return found

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, dict[str, Any]]:
        """Let the operator prepare the scene, then observe."""
        self._seen, info = super().reset(seed=seed, options=options)
        return self._seen, info

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step. Raises UnsafeActionError, with the robot stopped, for an action that must not be sent.

        What the operator calls a failure ends the episode without a success.
        """
        try:
            self._require_going()
            if not self._moving:
                self._go()
            person = self._commanded()
            return self._execute(self._in_its_units(action) if person is None else person, person is not None)
        except BaseException as error:
            self.stop(str(error))
            raise

    def _commanded(self) -> np.ndarray | None:
        """What a person who has the arm commands, in the robot's units."""
        person = self.operator.action()
        return None if person is None else np.array([person[name] for name in self.actions.features])

    def _execute(self, wanted: np.ndarray, intervened: bool) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.clock.acting()
        self._last = self.body.act(wanted)
        self.clock.acted()
        executed = self._last * self.actions.scale
        if self.recorder:  # whatever happens next, this was done
            self.recorder.step(dict(self._seen), executed, intervened)
        return self._after(executed, intervened)

    def _require_going(self) -> None:
        if self.operator.stopped():
            raise StoppedError("the operator stopped the robot.")

    def _in_its_units(self, action: np.ndarray) -> np.ndarray:
        wanted, scale = np.asarray(action, float), self.actions.scale
        return (
            wanted / scale if wanted.shape == scale.shape else wanted
        )  # another one is the guard's, not to be stretched

    def keep(self) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """A control step without a plan: a position is commanded again, no velocity, nothing else; a person goes on."""
        if self._last is not None and self.body.holds:
            moving = np.array([is_velocity(name) for name in self.actions.features])
            still = np.where(moving, 0.0, self._last)
            return self.step(still * self.actions.scale)
        try:
            self._require_going()
            person = self._commanded() if self._moving else None
            return self._after(None, False) if person is None else self._execute(person, True)
        except BaseException as error:
            self.stop(str(error))
            raise

    def _after(
        self, executed: np.ndarray | None, intervened: bool
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.clock.tick()
        observation = self.observe()
        self.operator.watch(self._raw)
        verdict = self.operator.verdict()
        success = verdict is Verdict.SUCCESS
        if success:
            self._note_success()
        self._seen, self._steps = observation, self._steps + 1
        if self._steps % SHOWN == 1:
            self._show()
        info = {"is_success": success, "executed": executed, "intervened": intervened}
        return observation, float(success), verdict is not None, False, info

    def _show(self) -> None:
        rate = self._successes / max(1, self._episodes - 1)
        facts = {"episode": self._episodes, "step": self._steps, "success_rate": min(1.0, rate)}
        self.operator.show({**facts, **self.clock.timing.recent()})

    def describe(self) -> str:
        """Which of the robot's features is which of the policy's numbers, and within which limits it moves."""
        parts = (("state", self.state), ("environment", self.environment), ("action", self.actions))
        lines = [line for name, channels in parts for line in channels.lines(name)]
        limits = zip(self.actions.features, self.config.guard.low or [], self.config.guard.high or [], strict=True)
        lines += [f"  {name} within {low:g} to {high:g}" for name, low, high in limits]
        seen, read = ("{} x {}".format(*size) for size in (self._recorded, self._picture))
        camera = f"{self.camera}, {seen} scaled to {read}" if self.camera else "none"
        return "\n".join([*lines, f"  {self.config.guard}", f"  camera: {camera}"])

    def beyond(self, low: Float[ndarray, "A"], high: Float[ndarray, "A"]) -> list[str]:
        """Where actions from ``low`` to ``high``, in the policy's units, are not all within the limits: a line for each."""
        rows = zip(self.actions.features, low, high, self.action_space.low, self.action_space.high, strict=True)
        return [
            f"{name}: the policy's {a:.4g} to {b:.4g} is beyond the limits {least:.4g} to {most:.4g}"
            for name, a, b, least, most in rows
            if max(least - a, b - most) > ROUNDING * (most - least)
        ]

    def restore(self, saved: Mapping[str, Any]) -> Observation:
        """Refuses: a robot can not go back. Raises RobotError."""
        raise RobotError("a robot can not be put back into an earlier state; reset it, and begin an episode.")

    def render(self) -> np.ndarray:
        """The camera of a twin in this process; a real robot has no view of itself here."""
        if not (isinstance(self.body, SafeRobot) and self.body.simulated):
            raise RobotError("a real robot cannot be rendered; use its cameras.")
        return np.asarray(self.body.robot.env.render())

    def stop(self, reason: str) -> None:
        """Bring the robot to its safe state and keep what was recorded."""
        try:
            self.body.stop(reason)
        finally:
            if self.recorder:
                self.recorder.end()

    def close(self) -> None:
        """The session is over."""
        self.stop("the session is over")


def twin_env(config: RobotConfig, task: TaskConfig) -> RobotEnv:
    """The twin in this process, connected, for evaluating on it. Raises RobotError for anything that is not simulated."""
    robot, config = make_robot(config, task.env, dict(task.options)), with_limits(replace(config, clock="auto"), task)
    body = SafeRobot(robot, config, task.fps)
    if not body.simulated:
        raise RobotError(f"{config.type} is no simulated robot: it is played by finetune_robot alone.")
    env = RobotEnv(body, config, task.fps, get_task(task.env).features)
    body.connect()
    return env


def with_limits(config: RobotConfig, task: TaskConfig) -> RobotConfig:
    """``config``, where a simulated robot without limits gets the task's own action range: it has no end stops to hit."""
    if config.type != SIMULATED or config.guard.low is not None:
        return config
    known = get_task(task.env)
    limits = replace(config.guard, low=list(known.action_low), high=list(known.action_high))
    return replace(config, guard=limits)
