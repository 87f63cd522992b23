"""Configuration of the twin, where LeRobot's plugin convention looks for it."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.robots.config import RobotConfig


@RobotConfig.register_subclass("postbc_twin")
@dataclass(kw_only=True)
class TwinConfig(RobotConfig):
    """Which task is simulated, and how its physics differ from what the policy has seen."""

    env: str = "lift"  # a key of postbc.sims.TASKS
    env_options: dict[str, Any] = field(default_factory=dict)
    mass: float = 1.0
    friction: float = 1.0
    latency: int = 0
    sensor_noise: float = 0.0
    dropped: float = 0.0
    bias: float = 0.0
    motor_log: str | None = None  # a file to which every command is appended as it reaches the motors
