"""The strip under a video's pictures, drawn and read back."""

import numpy as np
import torch

from postbc.config import PosteriorConfig
from postbc.demos.normalizer import half_range
from postbc.evaluation.strip import BAR, FULL, HEIGHT, TEXT, SpreadStrip
from postbc.posterior.artifact import write_posterior
from postbc.posterior.models import fit_posterior
from postbc.sims import get_task
from postbc.storage.checkpoint import Checkpoints

POSTERIOR = PosteriorConfig(members=5, hidden=16, layers=2, steps=200, batch=16)
STEPS = 20


def test_every_bar_is_as_high_as_the_posterior_is_uncertain_there(frames, tmp_path):
    model, _ = fit_posterior(frames, 3, POSTERIOR, 0, Checkpoints(tmp_path / "c", "x"))
    write_posterior(model, frames, (3, POSTERIOR), None, tmp_path / "posterior")
    env = SpreadStrip(get_task("reach").make(), tmp_path / "posterior", STEPS)
    bars = []
    for start in (0, 1):  # a new episode begins a new strip
        observation, _ = env.reset(seed=start)
        for step in range(1, STEPS + 1):
            observation = env.step(np.array([1.0, 0.3]))[0]
            picture, scene = env.render(), env.env.render()
            strip = picture[len(scene) :]
            assert np.array_equal(picture[: len(scene)], scene)
            assert strip.shape == (HEIGHT, scene.shape[1], 3)
            row = torch.from_numpy(np.concatenate([observation["agent_pos"], observation["environment_state"]]))[None]
            drawn = (strip == BAR).all(-1).sum(0)
            now = round(scene.shape[1] * step / STEPS) - 1
            bars.append(drawn[now])
            assert bars[-1] == round(
                (HEIGHT - TEXT) * min(float(model.spread(row, half_range(frames.action))) / FULL, 1)
            )
            assert not drawn[now + 1 :].any()
    assert len(set(bars)) > 3


def test_dimensions_that_never_varied_do_not_count(frames, tmp_path):
    model, _ = fit_posterior(frames, 3, POSTERIOR, 0, Checkpoints(tmp_path / "c", "x"))
    half = half_range(frames.action)
    apart = model.predict(frames.obs).std(1, correction=0).reshape(-1, 3, 2)
    assert torch.allclose(model.spread(frames.obs, half), (apart / half).square().mean((1, 2)).sqrt(), atol=1e-6)
    only = half * torch.tensor([1.0, 0.0])
    assert torch.allclose(model.spread(frames.obs, only), (apart[..., 0] / half[0]).square().mean(1).sqrt(), atol=1e-6)
