"""Actions sampled at states that the posterior has picked."""

import numpy as np
import pytest
import torch
from toy import with_idle_dimension

from postbc.config import Method, PosteriorConfig, PretrainConfig
from postbc.demos.normalizer import half_range
from postbc.errors import IntegrityError
from postbc.evaluation.samples import DRAWN, STATES, action_samples
from postbc.policies.pretrain import pretrain
from postbc.posterior.artifact import telling_states, write_posterior
from postbc.posterior.factors import Factors
from postbc.posterior.models import fit_posterior
from postbc.posterior.targets import Targets
from postbc.storage.checkpoint import Checkpoints

POSTERIOR = PosteriorConfig(members=5, hidden=16, layers=2, steps=200, batch=16)
POLICY = PretrainConfig(hidden=16, layers=1, denoising_steps=10, inference_steps=2, steps=400, batch=16, ema=0.9)


def test_from_the_posteriors_states_to_every_policys_actions(frames, tmp_path):
    frames = with_idle_dimension(frames)
    model, _ = fit_posterior(frames, 3, POSTERIOR, 0, Checkpoints(tmp_path / "c", "x"))
    factors = Factors.of(model, frames, 3)
    states = telling_states(model, factors, frames)
    spread = states["members"].std(1, unbiased=False)[:, :2].div(2 * half_range(frames.action)[:2]).mean(1)
    everywhere = factors.std()[:, :2].div(2 * half_range(frames.action)[:2]).mean(1)
    assert torch.allclose(spread[[0, 2]], torch.stack([everywhere.min(), everywhere.max()]), rtol=1e-4)
    assert spread[0] < spread[1] < spread[2]
    write_posterior(model, frames, (3, POSTERIOR), None, tmp_path / "posterior")
    policy, _ = pretrain(Targets(frames, 3, Method.BC), POLICY, 0, Checkpoints(tmp_path / "p", "x"))
    rows = action_samples({"bc": policy}, tmp_path / "posterior")
    for number, state in enumerate(STATES):
        own = [row for row in rows if row["state"] == state]
        assert [row["who"] for row in own] == ["demonstrated"] + ["posterior"] * 5 + ["bc"] * DRAWN
        shown = np.array([own[0]["action_0"], own[0]["action_1"]])
        low, high = frames.action.amin(0).numpy()[:2], frames.action.amax(0).numpy()[:2]
        assert np.allclose((shown + 1) / 2 * (high - low) + low, states["demonstrated"][number, :2], atol=1e-4)
    assert all(row["action_2"] == 0 for row in rows)
    assert all(-1 <= row[f"action_{i}"] <= 1 for row in rows for i in range(2))
    assert len({row["action_0"] for row in rows if row["who"] == "bc"}) > DRAWN
    (tmp_path / "posterior" / "states.safetensors").write_bytes(b"")
    with pytest.raises(IntegrityError, match="states"):
        action_samples({"bc": policy}, tmp_path / "posterior")
