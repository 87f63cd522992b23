"""Killed and continued on robosuite: exactly the run that was left alone."""

import pytest
import torch

from postbc.config import FinetuneConfig, TaskConfig
from postbc.evaluation.rollouts import evaluate, summary
from postbc.finetune.algorithms import build_learner
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.learner import OffPolicy
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.sims import get_task
from postbc.sims.vector import ChunkEnvs
from postbc.storage.checkpoint import Checkpoints, flatten

TASK = TaskConfig(name="lift", env="lift", chunk=4, max_steps=24)
CONFIG = FinetuneConfig(
    env_steps=200, initial_steps=40, envs=2, batch=16, hidden=16, layers=1, updates_per_chunk=1.0, checkpoint_every=40,
    evaluate_every=100,
)  # fmt: skip


def run(folder):
    torch.manual_seed(0)
    model = DiffusionPolicy(PolicyShape(get_task("lift").make().shape, 7, 4, 16, 1, 10, 2)).eval()
    learner = build_learner(model, CONFIG, 0)
    vector = ChunkEnvs.of(TASK).vector(CONFIG.envs, CONFIG.discount)
    look = lambda policy, envs: summary(evaluate(policy, envs, [10**6, 10**6 + 1], "look"))  # noqa: E731
    try:
        rows = finetune(learner, Arena(vector, list(range(100)), Checkpoints(folder / "c", "x"), look))
    finally:
        vector.close()
    return learner, rows


def test_a_killed_run_on_lift_ends_exactly_as_one_left_alone(tmp_path, monkeypatch):
    whole, curve = run(tmp_path / "a")
    learn, calls = OffPolicy.learn, []

    def killed(self, chunks):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return learn(self, chunks)

    monkeypatch.setattr(OffPolicy, "learn", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b")
    assert Checkpoints(tmp_path / "b" / "c", "x").load() is not None
    resumed, rows = run(tmp_path / "b")
    assert rows == curve
    ours, theirs = flatten(whole.state()), flatten(resumed.state())
    assert all(torch.equal(ours[0][key], theirs[0][key]) for key in ours[0])
    assert ours[1] == theirs[1]
