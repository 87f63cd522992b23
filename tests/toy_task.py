"""A task in which what a finetuner has to learn is known: a point on a line, moved by the policy's latent noise."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from postbc.config import DppoConfig, FinetuneConfig, Method, PretrainConfig
from postbc.demos.frames import stack_frames
from postbc.finetune.algorithms import build_learner
from postbc.finetune.driver import Arena, finetune
from postbc.observation import ObsShape
from postbc.policies.chain import ChainPolicy
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.policies.pretrain import pretrain
from postbc.posterior.targets import Targets
from postbc.sims.task import TaskEnv
from postbc.sims.vector import ChunkEnvs
from postbc.storage.checkpoint import Checkpoints

CHUNK, LIMIT = 2, 12
SHAPE = PolicyShape(ObsShape(1, 1), 1, CHUNK, 8, 1, 4, 2)


class Line(TaskEnv):
    """A point at x, seeing also its goal; an action moves it by at most 0.2. Done within 0.1 of the goal at ±0.8."""

    def __init__(self) -> None:
        super().__init__(ObsShape(1, 1), [-1.0], [1.0])

    def _start(self, seed: int) -> None:
        self.x, self.goal = 0.0, 0.8 if seed % 2 else -0.8

    def observe(self) -> dict[str, Any]:
        return {"agent_pos": np.float32([self.x]), "environment_state": np.float32([self.goal])}

    def _advance(self, action):
        self.x += 0.2 * float(np.clip(action[0], -1, 1))
        done = abs(self.x - self.goal) < 0.1
        return self.observe(), float(done), done, False, {"is_success": done}


class Near(Line):
    """Both goals lie so near that wandering finds each of them now and then: what an on-policy learner needs."""

    def _start(self, seed: int) -> None:
        self.x, self.goal = 0.0, 0.5 if seed % 2 else -0.5


class Identity(DiffusionPolicy):
    """A frozen policy whose chunk is its latent noise."""

    def __init__(self) -> None:
        super().__init__(SHAPE)

    def generate(self, features, noise, scale=None):
        return noise.unflatten(1, (CHUNK, 1))


class Mirror(Identity):
    """A frozen policy that moves against its latent noise."""

    def generate(self, features, noise, scale=None):
        return -super().generate(features, noise)


class Dial(DiffusionPolicy):
    """A conditional policy that does what its scale says, from full speed back to full speed ahead; w means nothing."""

    def __init__(self) -> None:
        super().__init__(replace(SHAPE, conditional=True))

    def generate(self, features, noise, scale=None):
        return (2 * scale - 1)[:, None, None].expand(-1, CHUNK, 1)


BASE = FinetuneConfig(
    env_steps=3500, initial_steps=600, envs=4, updates_per_chunk=1.0, batch=64, hidden=32, layers=1,
    learning_rate=1e-3, tau=0.02, buffer=5000, evaluate_every=0, checkpoint_every=500,
)  # fmt: skip
CONFIGS = {
    "dsrl": BASE,
    "dsrl_na": replace(BASE, algorithm="dsrl_na"),
    "best_of_n": replace(BASE, algorithm="best_of_n", env_steps=6000, samples=16),
    "dppo": replace(
        BASE, algorithm="dppo", env_steps=24_000, initial_steps=0, envs=8, batch=256,
        dppo=DppoConfig(steps=4, rollout=25, critic_warmup=1, clip=0.1, clip_base=0.05, min_std=0.2, min_log_std=0.2),
    ),
}  # fmt: skip
ENVS = ChunkEnvs(Line, CHUNK, LIMIT)


def run(folder, config, model, evaluate=None, envs=ENVS):
    """A finetuning run; the learner and its curve."""
    learner = build_learner(model, config, 0)
    vector = envs.vector(config.envs, config.discount)
    try:
        rows = finetune(learner, Arena(vector, list(range(10_000)), Checkpoints(folder / "c", "test"), evaluate))
    finally:
        vector.close()
    return learner, rows


def success(policy, tries: int = 10, task: type[Line] = Line) -> float:
    """Share of episodes towards either goal that succeed."""
    env, done, generator = task(), 0, torch.Generator().manual_seed(0)
    for seed in range(2 * tries):
        observation, _ = env.reset(seed=seed)
        terminated = False
        for _ in range(LIMIT // CHUNK):
            obs = torch.tensor([[observation["agent_pos"][0], observation["environment_state"][0]]])
            for action in policy.act(obs, torch.randn(1, policy.normal_dim, generator=generator))[0].numpy():
                if not terminated:
                    observation, _, terminated, _, _ = env.step(action)
        done += terminated
    return done / (2 * tries)


def wanderer(kind: str, folder) -> ChainPolicy:
    """A trained policy that moves either way at random, wherever the goal is."""
    random = np.random.default_rng(0)
    parts = []
    for _ in range(40):
        seen = random.uniform(-1, 1, (12, 2)).astype(np.float32)
        parts.append((seen[:, :1], seen[:, 1:], random.uniform(-1, 1, (12, 1)).astype(np.float32), None))
    config = PretrainConfig(
        policy=kind, hidden=32, layers=2, denoising_steps=20, inference_steps=4, steps=800, batch=64, ema=0.9
    )
    targets = Targets(stack_frames(parts, 10), CHUNK, Method.BC)
    policy, _ = pretrain(targets, config, 0, Checkpoints(folder / kind, "x"))
    assert isinstance(policy.model, ChainPolicy)
    return policy.model
