"""The twin: a task's simulator with altered dynamics behind LeRobot's Robot interface.

It stands where a robot would, so that everything on the way to a robot runs in tests and in the default pipeline. Its
clock is simulated: sending an action lets one control period pass.
"""

import json
import os
import time
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np
from lerobot.robots.robot import Robot

from postbc.errors import RobotError
from postbc.features import Features
from postbc.observation import ENVIRONMENT, PIXELS, STATE
from postbc.robots.config_twin import TwinConfig
from postbc.sims import Dynamics, get_task
from postbc.sims.task import TaskEnv

ACTION = "action"
LOGGING = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class Twin(Robot):
    """Features are those that the task names, or ``agent_pos.i``, ``environment_state.i``, ``action.i``: floats in its units.

    Where the task has a camera, ``pixels`` (h, w, C) beside them. What reached the motors, and stops, stand in ``motor_log``.
    """

    config_class: ClassVar[Any] = TwinConfig
    name: ClassVar[Any] = "postbc_twin"
    is_simulated = True

    def __init__(self, config: TwinConfig) -> None:
        super().__init__(config)
        self.config = config
        dynamics = Dynamics(**{part.name: getattr(config, part.name) for part in fields(Dynamics)})
        task = get_task(config.env)
        self.env = task.make(dynamics=dynamics, **config.env_options)
        self.names = _names(self.env, task.features)
        self._log = None if config.motor_log is None else os.open(config.motor_log, LOGGING, 0o644)
        self._connected = False
        self._observation: dict[str, np.ndarray] = {}
        self._success = False

    @property
    def observation_features(self) -> dict[str, Any]:
        """Names and types of what is observed."""
        return {
            **dict.fromkeys((*self.names[STATE], *self.names[ENVIRONMENT]), float),
            **({PIXELS: self.env.observation_space[PIXELS].shape} if self.env.shape.pixels else {}),
        }

    @property
    def action_features(self) -> dict[str, Any]:
        """Names and types of what is commanded."""
        return dict.fromkeys(self.names[ACTION], float)

    @property
    def is_connected(self) -> bool:
        """Whether :meth:`connect` was called."""
        return self._connected

    def connect(self, calibrate: bool = True) -> None:
        """Start the simulator."""
        self.place(0)
        self._connected = True

    @property
    def is_calibrated(self) -> bool:
        """A simulator needs no calibration."""
        return True

    def calibrate(self) -> None:
        """Nothing to do."""

    def configure(self) -> None:
        """Nothing to do."""

    def place(self, seed: int) -> None:
        """Put the scene into the initial state of ``seed``: what a person does by hand between episodes."""
        self._note("place")
        self._observation, _ = self.env.reset(seed=seed)
        self._success = False

    def succeeded(self) -> bool:
        """Whether the task is done, as a person would see it."""
        return self._success

    def _require_connection(self) -> None:
        if not self._connected:
            raise RobotError("the twin is not connected: call connect() first.")

    def get_observation(self) -> dict[str, Any]:
        """The present observation, flat."""
        self._require_connection()
        seen: dict[str, Any] = {key: value for key, value in self._observation.items() if key == PIXELS}
        for key in (STATE, ENVIRONMENT):
            seen |= zip(self.names[key], map(float, self._observation[key]), strict=True)
        return seen

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Execute one control period; returns what was sent."""
        self._require_connection()
        values = np.array([action[name] for name in self.action_features], np.float32)
        self._note(values.tolist())
        self._observation, _, _, _, info = self.env.step(values)
        self._success = bool(info["is_success"])
        return dict(action)

    def disconnect(self) -> None:
        """Stop; nothing can be sent afterwards."""
        self._connected = False
        self._note("stop")

    def _note(self, what: Any) -> None:
        if self._log is not None:
            os.write(self._log, json.dumps([time.monotonic(), what]).encode() + b"\n")  # outlives a kill


def _names(env: TaskEnv, features: Features | None) -> dict[str, list[str]]:
    """Of the numbers that are observed and commanded."""
    if features is None:
        sizes = {STATE: env.shape.state, ENVIRONMENT: env.shape.environment, ACTION: env.action_space.shape[0]}
        return {key: [f"{key}.{i}" for i in range(size)] for key, size in sizes.items()}
    named = {STATE: features.state, ENVIRONMENT: features.environment, ACTION: features.action}
    return {key: [one.name for one in part] for key, part in named.items()}
