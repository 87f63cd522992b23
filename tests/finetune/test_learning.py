"""DSRL on a task in which the latent noise is the action, so that what it has to learn is known."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from postbc.config import DsrlConfig
from postbc.finetune.driver import Arena, crossed, finetune, to_batch
from postbc.finetune.dsrl import Dsrl
from postbc.observation import ObsShape
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.sims.task import TaskEnv
from postbc.sims.vector import ChunkEnvs, Transition
from postbc.storage.checkpoint import Checkpoints

CHUNK, LIMIT = 2, 12


class Line(TaskEnv):
    """A point at x, seeing also its goal; an action moves it by at most 0.2. Done within 0.1 of the goal at ±0.8."""

    def __init__(self) -> None:
        super().__init__(ObsShape(1, 1), [-1.0], [1.0])

    def _start(self, seed: int) -> None:
        self.x, self.goal = 0.0, 0.8 if seed % 2 else -0.8

    def observe(self) -> dict[str, Any]:
        return {"agent_pos": np.float32([self.x]), "environment_state": np.float32([self.goal])}

    def step(self, action):
        self.x += 0.2 * float(np.clip(action[0], -1, 1))
        done = abs(self.x - self.goal) < 0.1
        return self.observe(), float(done), done, False, {"is_success": done}


class Identity(DiffusionPolicy):
    """A frozen policy whose chunk is its latent noise."""

    def __init__(self) -> None:
        super().__init__(PolicyShape(ObsShape(1, 1), 1, CHUNK, 8, 1, 4, 2))

    def sample(self, obs, noise, scale=None):
        return noise.unflatten(1, (CHUNK, 1))


CONFIG = DsrlConfig(
    env_steps=3500, initial_steps=600, envs=4, updates_per_chunk=1.0, batch=64, hidden=32, layers=1,
    learning_rate=1e-3, tau=0.02, buffer=5000, evaluate_every=0, checkpoint_every=500,
)  # fmt: skip
ENVS = ChunkEnvs(Line, CHUNK, LIMIT)


def run(tmp_path, config=CONFIG):
    learner = Dsrl(Identity(), config, 0)
    arena = Arena(ENVS.vector(config.envs, config.discount), list(range(3000)), Checkpoints(tmp_path / "c", "test"))
    rows = finetune(learner, arena)
    arena.vector.close()
    return learner, rows


def success(learner) -> float:
    env, done = Line(), 0
    for seed in range(2):
        observation, _ = env.reset(seed=seed)
        for _ in range(LIMIT // CHUNK):
            obs = torch.tensor([[observation["agent_pos"][0], observation["environment_state"][0]]])
            for action in learner.policy().act(obs)[0].numpy():
                observation, _, terminated, _, _ = env.step(action)
                if terminated:
                    break
            if terminated:
                done += 1
                break
    return done / 2


def test_it_learns_to_reach_both_goals_quickly(tmp_path):
    learner, rows = run(tmp_path)
    assert success(Dsrl(Identity(), CONFIG, 0)) == 0  # before: near w = 0, which does not move
    assert success(learner) == 1
    assert rows[-1]["training_success"] > 0.9
    obs = torch.tensor([[0.0, 0.8], [0.0, -0.8]])
    assert (learner.policy().noise(obs).mean(1) * torch.tensor([1.0, -1.0]) > 0.5).all()
    # The value counts control steps: from the start at least 4, discounted by 0.99, and from nearby about 1.
    value = learner.critics.value_of(obs, learner.policy().noise(obs))
    assert (value > -7).all()
    assert (value < -2).all()


def test_the_same_seed_gives_the_same_run(tmp_path):
    from dataclasses import replace

    short = replace(CONFIG, env_steps=600, initial_steps=200)
    (first, rows), (second, again) = run(tmp_path / "a", short), run(tmp_path / "b", short)
    assert rows == again
    assert all(torch.equal(a, b) for a, b in zip(first.actor.parameters(), second.actor.parameters(), strict=True))


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    update, calls = Dsrl.update, []

    def killed(self):
        calls.append(1)
        if len(calls) == 150:
            raise KeyboardInterrupt
        return update(self)

    monkeypatch.setattr(Dsrl, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    state = Checkpoints(tmp_path / "c", "test").load()
    assert state["progress"]["env_steps"] >= 500
    stored = state["learner"]["replay"]["size"]
    learner, rows = run(tmp_path)
    assert learner.replay.size > stored
    assert rows[0]["env_steps"] == 0  # the curve is the whole run's
    assert rows[-1]["env_steps"] >= CONFIG.env_steps


def test_a_time_limit_bootstraps_and_an_end_does_not():
    zeros = np.zeros((3, 2), np.float32)
    flags = [np.array(x) for x in ([True, False, False], [False, True, False])]
    steps, success_, seed = np.array([1, 2, 2]), np.array([True, False, False]), np.arange(3)
    step = Transition(zeros, zeros + 1, np.array([1.0, 0, 0]), *flags, steps, success_, np.zeros(3), seed)
    batch = to_batch(torch.zeros(3, 2), torch.zeros(3, 2), step, 0.9)
    assert torch.allclose(batch.bootstrap, torch.tensor([0.0, 0.81, 0.81]))
    assert torch.allclose(batch.reward, torch.tensor([0.0, -1.9, -1.9]), atol=1e-6)
    assert torch.equal(batch.following, torch.ones(3, 2))


def test_looking_at_a_policy_between_episodes_costs_no_start_twice(tmp_path):
    from dataclasses import replace

    seen = []

    class Watched(Line):
        def _start(self, seed):
            seen.append(seed)
            super()._start(seed)

    config = replace(CONFIG, env_steps=400, initial_steps=0, updates_per_chunk=0.0, evaluate_every=100)
    vector = ChunkEnvs(Watched, CHUNK, LIMIT).vector(4, 0.99)
    looks = []

    def look(policy, envs):
        envs.reset([5000, 6000])  # held-out starts
        looks.append(policy)
        return {"success": 0.0}

    rows = finetune(
        Dsrl(Identity(), config, 0), Arena(vector, list(range(3000)), Checkpoints(tmp_path / "c", "x"), look)
    )
    training = [seed for seed in seen if seed < 3000]
    assert len(training) == len(set(training))
    assert len(looks) == len(rows) == 5
    assert isinstance(vector._vector, gym.vector.SyncVectorEnv)


def test_crossing_a_multiple():
    assert crossed(3, 4, 4)
    assert not crossed(4, 7, 4)
    assert not crossed(0, 100, 0)
