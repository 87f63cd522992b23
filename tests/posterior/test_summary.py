"""Size, rank and share of the noise, whatever the actions' units."""

from dataclasses import replace

import pytest
import torch

from postbc.demos.normalizer import half_range
from postbc.posterior.factors import Factors
from postbc.posterior.summary import summarise

HORIZON = 3


def noise(frames, size, covariance="full", members=400):
    """Independent noise of ``size`` half ranges in every number."""
    generator = torch.Generator().manual_seed(0)
    centred = torch.randn(len(frames), members, 2 * HORIZON, generator=generator)
    centred = (centred - centred.mean(1, keepdim=True)) * size * half_range(frames.action).repeat(HORIZON)
    return Factors(centred, frames.fingerprint, covariance, HORIZON)


def test_no_unit_counts_for_more_than_another(frames):
    plain = summarise(noise(frames, 0.1), frames, HORIZON)
    scaled = replace(frames, action=frames.action * torch.tensor([0.01, 100.0]))
    other = summarise(noise(scaled, 0.1), scaled, HORIZON)
    assert (other["spread"], other["rank"]) == pytest.approx((plain["spread"], plain["rank"]), rel=1e-3)
    assert other["share"] == pytest.approx(plain["share"], rel=1e-3)
    assert plain["share"] == pytest.approx({"action_0": 0.5, "action_1": 0.5}, abs=0.02)
    deviation = (frames.action / half_range(frames.action)).var(0, unbiased=False).mean().sqrt()
    assert plain["spread"] == pytest.approx(0.1 / float(deviation), rel=0.02)


def test_the_rank_is_that_of_what_is_drawn(frames):
    """One direction alone: of the whole chunk, of each of its steps, of each of its numbers."""
    line = noise(frames, 0.1)
    line = replace(line, centred=line.centred[..., :1] * half_range(frames.action).repeat(HORIZON))
    ranks = {kind: summarise(replace(line, covariance=kind), frames, HORIZON)["rank"] for kind in RANKS}
    assert ranks == pytest.approx(RANKS, rel=1e-3)
    assert summarise(noise(frames, 0.1), frames, HORIZON)["rank"] > 5.5  # of six independent numbers


RANKS = {"full": 1, "step": HORIZON, "diagonal": 2 * HORIZON}


def test_what_never_varied_is_left_out(frames):
    factors = noise(frames, 0.1)
    idle = replace(frames, action=frames.action * torch.tensor([1.0, 0.0]))
    found = summarise(factors, idle, HORIZON)
    assert found["share"] == {"action_0": 1.0, "action_1": 0.0}
    assert found["rank"] < HORIZON + 0.1
