"""Robots and environments for tests of a session: the reach task's twin, in this process or in one of its own."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from postbc.config import TaskConfig
from postbc.config.robot import GuardConfig, RobotConfig
from postbc.robots import arming
from postbc.robots.environment import RobotEnv, twin_env, with_limits
from postbc.robots.guard import limits_fingerprint
from postbc.robots.remote import RemoteRobot
from postbc.robots.session import Pace, RobotVector

TASK = TaskConfig(name="reach", env="reach", fps=20, max_steps=30, chunk=4)
TWIN = RobotConfig(arm="simulated", guard=GuardConfig([-1.0, -1.0], [1.0, 1.0]))
POLICY = "a" * 64


def request(config: RobotConfig, task: TaskConfig = TASK) -> arming.Request:
    return arming.Request(config.type, POLICY, limits_fingerprint(config, task.fps))


def own_env(config: RobotConfig = TWIN, task: TaskConfig = TASK) -> RobotEnv:
    """A twin in this process."""
    return twin_env(config, task)


@contextmanager
def remote_env(folder: Path, config: RobotConfig = TWIN, task: TaskConfig = TASK):
    """A connected twin in a process of its own."""
    config = with_limits(config, task)
    body = RemoteRobot(config, task)
    try:
        env = RobotEnv(body, config, task.fps)
        body.connect(request(config, task), folder / "arming")
        yield env
    finally:
        body.stop("the test is over")


@contextmanager
def vector_of(env: RobotEnv, task: TaskConfig = TASK, **pace):
    vector = RobotVector(env, Pace.of(replace(TWIN, **pace), task), task.history, 0.99)
    try:
        yield vector
    finally:
        vector.close()
