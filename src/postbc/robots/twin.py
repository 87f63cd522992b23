"""The twin: a task's simulator with altered dynamics behind LeRobot's Robot interface.

It stands where a robot would, so that everything on the way to a robot runs in tests and in the default pipeline. Its
clock is simulated: sending an action lets one control period pass.
"""

from typing import Any, ClassVar

import numpy as np
from lerobot.robots.robot import Robot

from postbc.errors import RobotError
from postbc.observation import ENVIRONMENT, PIXELS, STATE
from postbc.robots.config_twin import TwinConfig
from postbc.sims import Dynamics, get_task

ACTION = "action"


class Twin(Robot):
    """Features are ``agent_pos.i``, ``environment_state.i`` and ``action.i``, all floats in the task's units.

    Where the task has a camera, ``pixels`` (h, w, C) beside them.
    """

    config_class: ClassVar[Any] = TwinConfig
    name: ClassVar[Any] = "postbc_twin"
    is_simulated = True

    def __init__(self, config: TwinConfig) -> None:
        super().__init__(config)
        self.config = config
        dynamics = Dynamics(config.mass, config.friction, config.latency, config.sensor_noise)
        self.env = get_task(config.env).make(dynamics=dynamics, **config.env_options)
        self._connected = False
        self._observation: dict[str, np.ndarray] = {}
        self._success = False

    @property
    def observation_features(self) -> dict[str, Any]:
        """Names and types of what is observed."""
        return {
            **{f"{STATE}.{i}": float for i in range(self.env.shape.state)},
            **{f"{ENVIRONMENT}.{i}": float for i in range(self.env.shape.environment)},
            **({PIXELS: self.env.observation_space[PIXELS].shape} if self.env.shape.pixels else {}),
        }

    @property
    def action_features(self) -> dict[str, Any]:
        """Names and types of what is commanded."""
        return {f"{ACTION}.{i}": float for i in range(self.env.action_space.shape[0])}

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
            seen |= {f"{key}.{i}": float(value) for i, value in enumerate(self._observation[key])}
        return seen

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        """Execute one control period; returns what was sent."""
        self._require_connection()
        values = np.array([action[name] for name in self.action_features], np.float32)
        self._observation, _, terminated, _, _ = self.env.step(values)
        self._success = bool(terminated)
        return dict(action)

    def disconnect(self) -> None:
        """Stop; nothing can be sent afterwards."""
        self._connected = False
