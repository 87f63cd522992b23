"""LeRobot's own SO-101 driver on a motor bus that moves nothing but numbers: the loop that a real arm goes through."""

import os
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from arm import armed
from sessions import vector_of

from postbc.compose import load_config
from postbc.config import FinetuneConfig
from postbc.demos.normalizer import MinMax
from postbc.demos.store import read_store
from postbc.errors import ConfigError, MismatchError, RobotError, UnsafeActionError
from postbc.features import Feature, Features
from postbc.finetune.algorithms import build_learner
from postbc.finetune.driver import Arena, finetune
from postbc.observation import ObsShape
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.robots import environment, lock
from postbc.robots.environment import RobotEnv
from postbc.robots.keeper import Keeper
from postbc.robots.operator.contract import Verdict
from postbc.robots.recorder import Recorder
from postbc.robots.safe import SafeRobot, make_robot
from postbc.robots.session import Pace, RobotVector
from postbc.sims import get_task
from postbc.storage.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
TASK = "so101_lift_marked"
FEATURES = get_task(TASK).features
MOTORS = [one.name.removesuffix(".pos") for one in FEATURES.action]


class Bus:
    """The servos' bus: each servo goes a part of the way to its goal whenever it is asked where it is."""

    def __init__(self, port, motors, calibration):
        self.motors, self.port = motors, port
        self.position = dict.fromkeys(motors, 0.0)
        self.goal, self.written, self.torque = dict(self.position), [], True
        self.is_connected, self.is_calibrated = False, True

    def connect(self):
        self.is_connected = True

    def disconnect(self, disable_torque):
        self.is_connected, self.torque = False, not disable_torque

    def configure_motors(self):
        """As the driver asks."""

    def write(self, *_):
        """As the driver asks."""

    def torque_disabled(self):
        return nullcontext()

    def sync_read(self, what, num_retry=0):
        assert what == "Present_Position"
        self.position = {name: now + 0.5 * (self.goal[name] - now) for name, now in self.position.items()}
        return dict(self.position)

    def sync_write(self, what, goals):
        assert what == "Goal_Position"
        assert self.is_connected
        self.goal |= goals
        self.written.append(np.array([goals[name] for name in self.motors]))


class Person:
    """Somebody who is content with every third episode, and stops for good after a while."""

    teleop = None

    def __init__(self):
        self.episodes = self.steps = 0

    def prepare(self, episode, seed):
        self.episodes, self.steps = episode, 0

    def verdict(self):
        self.steps += 1
        return None if self.steps < 12 else Verdict.SUCCESS if self.episodes % 3 == 0 else Verdict.FAILURE

    def action(self):
        return None

    def stopped(self):
        return False

    def watch(self, observation):
        assert set(observation) == {f"{name}.pos" for name in MOTORS}

    def show(self, facts):
        assert {"episode", "jitter_ms", "overruns"} <= facts.keys()

    def over(self):
        """Knows."""

    def close(self):
        """Goes home."""


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The project's own preset of the arm, as params.yaml chooses it."""
    from lerobot.robots.so_follower import so_follower

    monkeypatch.setattr(so_follower, "FeetechMotorsBus", Bus)
    monkeypatch.setattr(environment, "make_operator", lambda *_: Person())
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    (tmp_path / "params.yaml").write_text(f"task: {TASK}\nrobot: so101\nsize: default\n")
    monkeypatch.chdir(tmp_path)
    return load_config()


def connected(config, features=FEATURES):
    robot = config.finetune_robot.robot
    body = SafeRobot(make_robot(robot, config.task.env, {}), robot, config.task.fps)
    env = RobotEnv(body, robot, config.task.fps, features)
    body.connect(armed(robot, config.task.fps))
    return env


def test_a_finetuner_learns_on_the_arm(config, tmp_path):
    env = connected(config)
    bus, robot, task = env.body.robot.bus, config.finetune_robot.robot, config.task
    assert env.shape == ObsShape(6, 0)
    env.recorder = Recorder(tmp_path / "store", task.fps, {"robot": robot.type})
    shape = PolicyShape(env.shape, 6, task.chunk, 16, 1, 10, 2, features=FEATURES)
    model = DiffusionPolicy(shape)
    reach = torch.tensor([[-10.0, -20.0, -10.0, -10.0, -10.0, 0.0], [10.0, 10.0, 10.0, 10.0, 10.0, 30.0]])
    model.action_normalizer = MinMax.of(reach)
    settings = FinetuneConfig(
        env_steps=60,
        episodes=5,
        initial_steps=0,
        envs=1,
        batch=8,
        hidden=16,
        layers=1,
        evaluate_every=0,
        updates_per_chunk=1,
    )
    vector = RobotVector(env, Pace.of(robot, task), 1, 0.99)
    try:
        rows = finetune(
            build_learner(model, settings, 0),
            Arena(vector, list(range(20)), Checkpoints(tmp_path / "c", "x"), None, False),
        )
    finally:
        vector.close()
        env.recorder.close()
    assert rows[-1]["training_episodes"] == 5
    sent, episodes = np.array(bus.written), list(read_store(tmp_path / "store"))
    assert (sent >= robot.guard.low).all()
    assert (sent <= robot.guard.high).all()
    for own in np.split(sent[:-1], np.cumsum([len(episode) for episode in episodes])[:-1]):
        assert (np.abs(np.diff(own, axis=0)) <= np.array(robot.guard.max_speed) / task.fps + 1e-6).all()
    assert [bool(episode.success.any()) for episode in episodes] == [False, False, True, False, False]
    assert np.allclose(np.concatenate([episode.action for episode in episodes]), sent[:-1], atol=1e-4)
    assert np.allclose(sent[-1], [bus.position[name] for name in MOTORS], atol=0.1)  # at the end it stays where it is
    assert not bus.is_connected
    assert bus.torque  # on_stop: hold
    timing = env.clock.timing.summary()
    assert timing["actions"] == sum(map(len, episodes))


def test_another_project_of_this_user_waits_for_the_arm(config, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SHARED", tmp_path)
    robot, keepers = config.finetune_robot.robot, [Keeper(None), Keeper(None)]
    for name, keeper in zip("ab", keepers, strict=True):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        called = replace(robot, options={**robot.options, "id": name})  # whatever they call it
        made = (asdict(called), config.task.env, {}, config.task.fps)
        with pytest.raises(RobotError, match="another session runs with so101") if name == "b" else nullcontext():
            keeper.do_make(*made)
    for held in keepers[0]._locks:
        os.close(held)


def test_an_arm_in_other_units_gets_degrees(config):
    radians = Features(
        tuple(Feature(one.name, "rad" if one.unit == "deg" else one.unit) for one in FEATURES.state),
        (),
        FEATURES.action,
    )
    env = connected(config, radians)
    env.body.robot.bus.goal["elbow_flex"] = env.body.robot.bus.position["elbow_flex"] = 90.0
    assert env.observe()["agent_pos"][2] == pytest.approx(np.pi / 2)
    env.close()


def test_the_table_is_out_of_bounds(config):
    env = connected(config)
    with vector_of(env, config.task) as vector:
        vector.reset([0])
        down = np.zeros((1, config.task.chunk, 6))
        down[..., 1:3] = 90.0
        with pytest.raises(UnsafeActionError, match="workspace"):
            for _ in range(20):
                vector.begin(down)
                vector.finish()
    assert not env.body.robot.bus.is_connected


def test_a_policy_of_other_joints_is_refused_before_anything_is_connected(config):
    swapped = replace(FEATURES, state=(FEATURES.state[1], FEATURES.state[0], *FEATURES.state[2:]))
    with pytest.raises(MismatchError, match="in this order"):
        connected(config, swapped)


def test_cameras_are_named_in_params(config):
    front = {"type": "opencv", "index_or_path": 0, "width": 64, "height": 48, "fps": 30}
    robot = config.finetune_robot.robot
    robot = replace(robot, options={**robot.options, "cameras": {"front": front}}, camera="front")
    body = SafeRobot(make_robot(robot, config.task.env, {}), robot, config.task.fps)
    assert RobotEnv(body, robot, config.task.fps, FEATURES).shape == ObsShape(6, 0, (3, 48, 64))
    small = RobotEnv(body, robot, config.task.fps, FEATURES, (24, 32))
    assert small.shape == ObsShape(6, 0, (3, 24, 32))
    assert "front, 48 x 64 scaled to 24 x 32" in small.describe()
    with pytest.raises(ConfigError, match="is a number"):
        RobotEnv(body, replace(robot, camera="gripper.pos"), config.task.fps, FEATURES)
    with pytest.raises(ConfigError, match="options"):
        make_robot(replace(robot, options={**robot.options, "cameras": {"front": {"type": "lidar"}}}), "reach", {})
