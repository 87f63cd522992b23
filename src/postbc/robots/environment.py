"""A LeRobot Robot as a task environment, so that simulator and robot are two environments for the same finetuner."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from postbc.config import GuardConfig, RobotConfig, TaskConfig
from postbc.errors import ConfigError, RobotError
from postbc.observation import ENVIRONMENT, PIXELS, STATE, ObsShape
from postbc.robots.guard import Guard
from postbc.robots.operator import ConsoleOperator, Operator, ScriptedOperator
from postbc.robots.recorder import Recorder
from postbc.sims import get_task
from postbc.sims.task import Observation, TaskEnv

CALIBRATION = ".work/lerobot"


def make_robot(config: RobotConfig, task: TaskConfig) -> Any:
    """The LeRobot Robot that params.yaml names, not connected. Raises ConfigError when LeRobot knows no such robot."""
    from lerobot.robots.config import RobotConfig as LeRobotConfig
    from lerobot.robots.utils import make_robot_from_config

    import postbc.robots.config_twin  # noqa: F401 - registers postbc_twin

    if config.type not in LeRobotConfig.get_known_choices():
        from lerobot.utils.import_utils import register_third_party_plugins

        register_third_party_plugins()
    if config.type not in LeRobotConfig.get_known_choices():
        known = ", ".join(sorted(LeRobotConfig.get_known_choices()))
        raise ConfigError(f"finetune_robot.robot.type = {config.type!r}; LeRobot knows {known}.")
    options: dict[str, Any] = {"id": config.type, "calibration_dir": Path(CALIBRATION), **config.options}
    if config.type == "postbc_twin":
        options |= {"env": task.env, "env_options": dict(task.options)}
    try:
        return make_robot_from_config(LeRobotConfig.get_choice_class(config.type)(**options))
    except TypeError as error:
        raise ConfigError(f"finetune_robot.robot.options: {error}") from error


def is_simulated(robot: Any) -> bool:
    """Whether the robot can hurt nobody."""
    return bool(getattr(robot, "is_simulated", False))


class RobotEnv(TaskEnv):
    """One robot, guarded; ``step`` sends an action, waits for the control period and observes.

    The robot is connected at the first reset and disconnected by :meth:`close` or by any exception on the way.
    """

    def __init__(self, robot: Any, config: RobotConfig, fps: float, recorder: Recorder | None = None) -> None:
        features, actions = robot.observation_features, list(robot.action_features)
        self.state = config.state or [n for n in features if n.startswith("agent_pos.")]
        self.environment = config.environment_state or [n for n in features if n.startswith("environment_state.")]
        self.actions = config.action or actions
        missing = [n for n in (*self.state, *self.environment) if n not in features]
        if missing or sorted(self.actions) != sorted(actions):
            raise ConfigError(
                f"{config.type} observes {', '.join(features)} and takes {', '.join(actions)}; "
                f"finetune_robot.robot asks for {', '.join(missing) or ', '.join(self.actions)}."
            )
        self.guard = Guard(config.guard)
        height_width_channels = features.get(config.camera)
        self.camera = config.camera if height_width_channels else None
        pixels = (height_width_channels[2], *height_width_channels[:2]) if height_width_channels else None
        shape = ObsShape(len(self.state), len(self.environment), pixels)
        super().__init__(shape, self.guard.low.tolist(), self.guard.high.tolist())
        self.robot, self.period, self.recorder = robot, 1 / fps, recorder
        self.simulated = is_simulated(robot)
        self.operator: Operator = ScriptedOperator(robot) if self.simulated else ConsoleOperator()

    def _start(self, seed: int) -> None:
        if not self.robot.is_connected:
            self.robot.connect()
        if self.recorder:
            self.recorder.end()
        self.operator.reset(seed)
        self.guard.reset()
        if self.recorder:
            self.recorder.begin(seed)
        self._due = time.monotonic()

    def observe(self) -> Observation:
        """What the robot's features say now."""
        raw = self.robot.get_observation()
        names = {STATE: self.state, ENVIRONMENT: self.environment}
        seen = {key: np.array([raw[n] for n in own], np.float32) for key, own in names.items()}
        return {**seen, PIXELS: np.asarray(raw[self.camera], np.uint8)} if self.camera else seen

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Observation, dict[str, Any]]:
        """Let the operator prepare the scene, then observe."""
        self._seen, info = super().reset(seed=seed, options=options)
        return self._seen, info

    def _advance(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Send one action through the guard. Raises UnsafeActionError, with the robot disconnected, for an unsafe one."""
        try:
            safe = self.guard.check(np.asarray(action, float))
            sent = self.robot.send_action(dict(zip(self.actions, map(float, safe), strict=True)))
            self._wait()
            observation, success = self.observe(), self.operator.succeeded()
        except BaseException:
            self.close()
            raise
        if self.recorder:
            self.recorder.step(dict(self._seen), [sent[name] for name in self.actions], success)
        self._seen = observation
        return observation, float(success), success, False, {"is_success": success}

    def _wait(self) -> None:
        """Sleep until the control period is over; a simulated clock needs no waiting."""
        self._due += self.period
        if not self.simulated:
            time.sleep(max(0.0, self._due - time.monotonic()))

    def restore(self, saved: Mapping[str, Any]) -> Observation:
        """Refuses: a robot can not go back. Raises RobotError."""
        raise RobotError("a robot can not be put back into an earlier state; reset it, and begin an episode.")

    def render(self) -> np.ndarray:
        """The twin's camera; a real robot has no view of itself here."""
        if not self.simulated:
            raise RobotError("a real robot cannot be rendered; use its cameras.")
        return np.asarray(self.robot.env.render())

    def close(self) -> None:
        """Bring the robot to its safe state and keep what was recorded."""
        try:
            if self.robot.is_connected:
                self.robot.disconnect()
        finally:
            if self.recorder:
                self.recorder.end()


def robot_env(config: RobotConfig, task: TaskConfig, recorder: Recorder | None = None) -> RobotEnv:
    """The environment of the robot that params.yaml names.

    A simulated robot whose guard has no limits gets the task's own action range: it has no end stops to hit.
    """
    robot = make_robot(config, task)
    if is_simulated(robot) and config.guard.low is None:
        config = with_task_limits(config, task)
    return RobotEnv(robot, config, task.fps, recorder)


def with_task_limits(config: RobotConfig, task: TaskConfig) -> RobotConfig:
    """``config`` with the action range of the task as limits."""
    known = get_task(task.env)
    limits = GuardConfig(list(known.action_low), list(known.action_high), config.guard.max_step)
    return replace(config, guard=limits)
