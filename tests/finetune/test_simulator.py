"""Killed and continued on robosuite: exactly the run that was left alone."""

from dataclasses import replace

import pytest
import torch

from postbc.config import DppoConfig, FinetuneConfig, TaskConfig
from postbc.evaluation.rollouts import evaluate, summary
from postbc.finetune.algorithms import ALGORITHMS, build_learner
from postbc.finetune.driver import Arena, finetune
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.sims import get_task
from postbc.sims.vector import ChunkEnvs, ChunkVector
from postbc.storage.checkpoint import Checkpoints, flatten
from postbc.storage.journal import Journal, read_journal

TASK = TaskConfig(name="lift", env="lift", chunk=4, max_steps=24)
CONFIG = FinetuneConfig(
    env_steps=200, initial_steps=40, envs=2, batch=16, hidden=16, layers=1, updates_per_chunk=1.0, checkpoint_every=40,
    evaluate_every=100, dppo=DppoConfig(steps=2, rollout=6, critic_warmup=1),
)  # fmt: skip


def run(folder, algorithm):
    torch.manual_seed(0)
    model = DiffusionPolicy(PolicyShape(get_task("lift").make().shape, 7, 4, 16, 1, 10, 2)).eval()
    learner = build_learner(model, replace(CONFIG, algorithm=algorithm), 0)
    vector = ChunkEnvs.of(TASK).vector(CONFIG.envs, CONFIG.discount)
    look = lambda policy, envs: summary(evaluate(policy, envs, [10**6, 10**6 + 1], "look"))  # noqa: E731
    try:
        checkpoints, journal = Checkpoints(folder / "c", "x"), Journal(folder / "journal")
        arena = Arena(vector, list(range(100)), checkpoints, look, journal=journal)
        rows = finetune(learner, arena)
    finally:
        vector.close()
    return learner, rows


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_killed_run_on_lift_ends_exactly_as_one_left_alone(tmp_path, monkeypatch, algorithm):
    whole, curve = run(tmp_path / "a", algorithm)
    finish, calls = ChunkVector.finish, []

    def killed(self):
        calls.append(1)
        if len(calls) == 40:  # in the middle of episodes, a chunk in flight
            raise KeyboardInterrupt
        return finish(self)

    monkeypatch.setattr(ChunkVector, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", algorithm)
    assert not read_journal(tmp_path / "b" / "journal").over
    saved = Checkpoints(tmp_path / "b" / "c", "x").load()
    assert saved is not None
    assert 0 < saved["progress"]["env_steps"] < CONFIG.env_steps
    assert any(len(chunks) for chunks in saved["episodes"]["played"].values())
    resumed, rows = run(tmp_path / "b", algorithm)
    assert rows == curve
    written = read_journal(tmp_path / "b" / "journal")
    assert written.rows == curve
    assert written.over
    ours, theirs = flatten(whole.state()), flatten(resumed.state())
    assert all(torch.equal(ours[0][key], theirs[0][key]) for key in ours[0])
    assert ours[1] == theirs[1]
