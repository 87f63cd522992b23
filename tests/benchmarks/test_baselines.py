"""stable-baselines3 on the task in which what it has to learn is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_task import BASE, CHUNK, LIMIT, Identity, Near, success

from benchmarks.baselines import Ground, learn
from postbc.demos.frames import stack_frames
from postbc.sims.vector import ChunkEnvs

CONFIG = replace(BASE, env_steps=5000, initial_steps=200, envs=2, evaluate_every=1000, updates_per_chunk=2.0)
ENVS = ChunkEnvs(Near, CHUNK, LIMIT)


def demonstrations():
    """Straight to either goal."""
    parts = []
    for goal in (0.5, -0.5):
        x = np.arange(3, dtype=np.float32)[:, None] * 0.2 * np.sign(goal)
        parts.append((x, np.full_like(x, goal), np.full((3, 1), np.sign(goal), np.float32), None))
    return stack_frames(parts, 10)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def played(name, budget):
    model, frames = Identity(), demonstrations()
    looks = []

    def look(policy):
        looks.append(success(policy, task=Near))
        return {"success": looks[-1]}

    policy, rows = learn(name, replace(CONFIG, env_steps=budget), Ground(ENVS, model, frames), look, 0)
    assert [row["success"] for row in rows] == looks
    assert budget <= rows[-1]["env_steps"] < budget + CONFIG.envs * CHUNK
    assert len(rows) == budget // CONFIG.evaluate_every
    return policy


@pytest.mark.parametrize("name", ["sac", "ppo"])
def test_both_learn_from_scratch(name):
    assert success(played(name, 2000 if name == "sac" else 6000), task=Near) == 1


def test_a_cloned_actor_begins_with_what_was_demonstrated():
    assert success(played("ppo from bc", 1000), task=Near) == 1
