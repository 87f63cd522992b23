"""Two sources of error are told apart, and alpha: auto follows."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from toy import make_frames, toy_episode

from postbc.config import PosteriorConfig
from postbc.posterior.calibration import ALPHA_RANGE, HeldOut, calibrate, hold_out, separate
from postbc.storage.checkpoint import Checkpoints
from stages.posterior import calibration

SMALL = PosteriorConfig(members=6, hidden=16, layers=2, steps=150, batch=16, folds=3)


def synthetic(kappa: float, own: float, episodes: int = 12, length: int = 200) -> HeldOut:
    """Residuals that really are N(0, own² + κ V), V different from frame to frame."""
    generator = torch.Generator().manual_seed(5)
    count = episodes * length
    size = 0.3 * torch.rand(count, 1, 1, generator=generator) ** 2
    centred = size * torch.randn(count, 40, 3, generator=generator)
    centred = centred - centred.mean(1, keepdim=True)
    std = (own**2 + kappa * centred.square().mean(1)).sqrt()
    residual = std * torch.randn(std.shape, generator=generator)
    return HeldOut(residual, centred, torch.arange(count) // length)


def test_the_demonstrators_own_variation_is_not_counted_as_ignorance():
    for kappa, own in ((1.0, 0.1), (0.25, 0.02), (3.0, 0.3)):
        held = synthetic(kappa, own)
        found, variance = separate(held.residual, held.variance)
        assert abs(found / kappa - 1) < 0.2
        assert abs(float(variance.mean().sqrt()) / own - 1) < 0.1


def test_alpha_is_the_scale_of_the_error_and_the_scaled_posterior_covers():
    held = synthetic(0.3, 0.03)
    found = calibrate(held, 0)
    assert abs(found.alpha - 0.3**0.5) < 0.05
    assert found.alpha_low <= found.alpha <= found.alpha_high
    level, after = found.coverage["level"], found.coverage["after scaling"]
    assert max(abs(a - b) for a, b in zip(level, after, strict=True)) < 0.02
    before = found.coverage["posterior and own variation"]
    assert max(abs(a - b) for a, b in zip(level, before, strict=True)) > 0.05
    assert found.energy_score["alpha"] <= min(found.energy_score["0"], found.energy_score["1"]) + 1e-4
    assert "12 held-out episodes" in found.reason


def test_alpha_stays_within_its_range():
    low, high = ALPHA_RANGE
    assert calibrate(synthetic(0.0, 0.2), 0).alpha == low
    wide = calibrate(synthetic(30.0, 0.02), 0)
    assert wide.alpha == high
    assert "limited" in wide.reason


def test_no_frame_is_predicted_by_a_model_that_saw_its_episode(tmp_path, monkeypatch):
    frames = make_frames([toy_episode(n, 8 + n) for n in range(5)])
    seen = []
    from postbc.posterior import calibration

    original = calibration.fit_posterior

    def recording(frames, *rest):
        seen.append(frames)
        return original(frames, *rest)

    monkeypatch.setattr(calibration, "fit_posterior", recording)
    held = hold_out(frames, 2, SMALL, 0, Checkpoints(tmp_path / "c", "test"))
    assert sorted(held.episode.tolist()) == frames.episode.tolist()
    assert [len(fit) for fit in seen] == [len(frames) - n for n in torch.bincount(fold_of(frames, held)).tolist()]
    assert held.residual.shape == (len(frames), 4)
    assert torch.allclose(held.centred.mean(1), torch.zeros(1), atol=1e-5)


def fold_of(frames, held):
    """Folds in the order of ``held``, from runs of increasing episodes."""
    number = torch.zeros(len(held.episode), dtype=torch.long)
    number[1:] = (held.episode[1:] < held.episode[:-1]).long().cumsum(0)
    return number


def test_the_same_seed_gives_the_same(tmp_path):
    frames = make_frames([toy_episode(n) for n in range(3)])
    one, two = (calibrate(hold_out(frames, 2, SMALL, 0, Checkpoints(tmp_path / n, "t")), 0) for n in "ab")
    assert one == two


FEW = [(2, 3, False), (3, 3, True), (3, 0, False), (3, 2, False), (4, 2, True)]


@pytest.mark.parametrize(("episodes", "folds", "says"), FEW)
def test_nothing_is_said_where_a_fold_would_leave_a_single_trajectory(episodes, folds, says, tmp_path):
    frames = make_frames([toy_episode(n) for n in range(episodes)])
    config = SimpleNamespace(posterior=replace(SMALL, folds=folds), task=SimpleNamespace(chunk=2), seed=0)
    assert (calibration(config, frames, Checkpoints(tmp_path, "t")) is not None) == says
