"""What LeRobot imports at start-up, so that its commands know postbc's policy, tasks and twin."""

import postbc.policies.configuration_postbc
import postbc.robots.config_twin
import postbc.sims.lerobot_env  # noqa: F401 - importing registers
