"""Demonstrations as transitions, step by step by hand, and what they are good for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_task import BASE, CHUNK, SHAPE, Identity

from postbc.config import DppoConfig
from postbc.demos.frames import stack_frames
from postbc.errors import ConfigError
from postbc.finetune.algorithms import build_learner
from postbc.finetune.demonstrations import show, transitions
from postbc.policies.diffusion import DiffusionPolicy

DISCOUNT, H = 0.9, 3


def recorded(lengths, succeeded):
    """Episodes of random numbers; the last step of those that succeeded has reward 1."""
    random, parts, reward = np.random.default_rng(0), [], []
    for length, success in zip(lengths, succeeded, strict=True):
        seen = random.random((length, 2)).astype(np.float32)
        parts.append((seen[:, :1], seen[:, 1:], random.random((length, 1)).astype(np.float32), None))
        reward += [0.0] * (length - 1) + [float(success)]
    frames = stack_frames(parts, 10)
    return replace(frames, reward=torch.tensor(reward), success=torch.tensor(reward) > 0)


@pytest.mark.parametrize("cost", [0.0, 1.0])
def test_every_chunk_is_what_playing_it_would_have_stored(cost):
    frames = recorded([7, 4, 2], [True, False, True])
    found = transitions(frames, torch.arange(len(frames)), H, DISCOUNT, cost)
    for t in range(len(frames)):
        last, total, power, alive, steps = int(frames.last[t]), 0.0, 1.0, True, 0
        for k in range(t, min(t + H, last + 1)):
            total += power * (float(frames.reward[k]) - cost)
            power *= DISCOUNT
            steps += 1
            if frames.success[k]:
                alive = False
                break
        if alive and t + steps > last:  # recorded no further
            assert found.reward[t].isnan()
            continue
        assert float(found.reward[t]) == pytest.approx(total, abs=1e-6)
        assert float(found.bootstrap[t]) == pytest.approx(power if alive else 0.0)
        if alive:
            assert torch.equal(found.following[t], frames.rows(torch.tensor([t + steps]))[0])
        assert torch.equal(found.obs[t], frames.rows(torch.tensor([t]))[0])
        assert torch.equal(found.choice[t], frames.chunks(torch.tensor([t]), H)[0])


def test_success_before_the_recordings_end_ends_the_chunk():
    frames = recorded([6], [True])
    frames = replace(frames, reward=torch.tensor([0, 0, 1.0, 1, 1, 1]), success=torch.tensor([0, 0, 1, 1, 1, 1]) > 0)
    found = transitions(frames, torch.arange(2), H, DISCOUNT, 0.0)
    assert found.reward.tolist() == pytest.approx([0.81, 0.9])
    assert found.bootstrap.tolist() == [0, 0]


@pytest.mark.parametrize("algorithm", ["dsrl_na", "best_of_n"])
def test_what_is_known_goes_into_the_replay(algorithm):
    learner = build_learner(Identity(), replace(BASE, algorithm=algorithm), 0)
    frames = recorded([9, 5], [True, False])
    shown = show(learner, frames)
    assert shown == learner.replay.size == 9 + 5 - CHUNK
    learner.update()
    stored = learner.replay.state()
    assert torch.equal(stored["choice"][:9], learner.model.normalise(frames.chunks(torch.arange(9), CHUNK)))
    with pytest.raises(ConfigError, match="no success"):
        show(learner, recorded([9], [False]))
    with pytest.raises(ConfigError, match="no success"):
        show(learner, replace(frames, reward=None, success=None))


@pytest.mark.parametrize(("algorithm", "why"), [("dsrl", "latent noise"), ("dppo", "its own rollouts")])
def test_who_cannot_learn_from_them_says_why(algorithm, why):
    config = replace(BASE, algorithm=algorithm, dppo=DppoConfig(steps=2))
    with pytest.raises(ConfigError, match=f"{algorithm} learns from {why}.*dsrl_na"):
        show(build_learner(DiffusionPolicy(SHAPE), config, 0), recorded([9], [True]))
