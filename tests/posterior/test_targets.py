"""What each method does to the demonstrated actions."""

import pytest
import torch

from postbc.config import Method, PretrainConfig
from postbc.demos.normalizer import half_range
from postbc.errors import ConfigError
from postbc.posterior.factors import Factors
from postbc.posterior.targets import Targets, matched_sigma, size_of

HORIZON = 3


@pytest.fixture
def factors(frames):
    generator = torch.Generator().manual_seed(3)
    centred = 0.02 * torch.randn(len(frames), 8, 2 * HORIZON, generator=generator)
    return Factors(centred - centred.mean(1, keepdim=True), frames.fingerprint, "full", HORIZON)


def drawn(frames, factors, method, size=1.0, frame=30, count=20_000):
    index = torch.full((count,), frame)
    targets = Targets(frames, HORIZON, method, size, factors)
    chunk, scale = targets.draw(index, torch.Generator().manual_seed(0))
    return (chunk - frames.chunks(index, HORIZON)).flatten(1), scale


@pytest.mark.parametrize("method", [Method.SIGMA_BC, Method.POSTBC, Method.POSTBC_MIXTURE])
def test_without_size_every_method_is_bc_to_the_last_bit(frames, factors, method):
    index, generator = torch.arange(len(frames)), torch.Generator()
    silent, _ = Targets(frames, HORIZON, method, 0.0, factors).draw(index, generator)
    assert torch.equal(silent, Targets(frames, HORIZON, Method.BC).draw(index, generator)[0])


def test_posterior_noise_has_the_posteriors_covariance_times_alpha_squared(frames, factors):
    noise, scale = drawn(frames, factors, Method.POSTBC, size=0.05)  # small enough not to be clipped
    centred = factors.centred[30]
    exact = 0.05**2 * centred.T @ centred / len(centred)
    assert scale is None
    assert torch.allclose(torch.cov(noise.T), exact, atol=0.05 * exact.abs().max().item())


def inner(frames):
    """A frame whose whole chunk lies well inside the demonstrated range, so that small noise is not clipped."""
    chunks, half = frames.all_chunks(HORIZON).unflatten(1, (HORIZON, -1)), half_range(frames.action)
    room = torch.minimum(chunks - frames.action.amin(0), frames.action.amax(0) - chunks) / half
    return int((room.amin((1, 2)) > 0.1).nonzero()[0])


def test_isotropic_noise_has_its_size_in_half_ranges_and_no_correlation(frames, factors):
    noise, scale = drawn(frames, factors, Method.SIGMA_BC, size=0.02, frame=inner(frames))
    half = half_range(frames.action).repeat(HORIZON)
    assert scale is None
    assert torch.allclose(noise.std(0) / half, torch.full((2 * HORIZON,), 0.02), rtol=0.03)
    assert (torch.corrcoef(noise.T) - torch.eye(2 * HORIZON)).abs().max() < 0.03


def test_isotropic_noise_of_the_matched_size_has_the_same_average(frames, factors):
    sigma, index = matched_sigma(factors, frames), torch.arange(len(frames)).repeat(300)
    sizes = {Method.SIGMA_BC: 0.02 * sigma, Method.POSTBC: 0.02}  # so small that next to nothing is clipped
    squares = [
        (Targets(frames, HORIZON, method, size, factors).noise(index, torch.Generator().manual_seed(1)))
        .div(half_range(frames.action))
        .square()
        .mean()
        for method, size in sizes.items()
    ]
    assert abs(float(squares[0] / squares[1]) - 1) < 0.05


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_mixture_leaves_its_share_as_demonstrated(frames, factors, share):
    targets = Targets(frames, HORIZON, Method.POSTBC_MIXTURE, 1.0, factors, share)
    noise = targets.noise(torch.full((20_000,), 30), torch.Generator().manual_seed(0)).flatten(1)
    assert abs(float((noise == 0).all(1).float().mean()) - (1 - share)) < 0.02


def test_the_conditional_policy_is_told_how_much_noise_there_is(frames, factors):
    noise, scale = drawn(frames, factors, Method.POSTBC_CONDITIONAL)
    assert abs(float((scale == 0).float().mean()) - 0.5) < 0.02
    assert (noise[scale == 0] == 0).all()
    noise, scale = drawn(frames, factors, Method.POSTBC_CONDITIONAL, 0.1, inner(frames))  # nothing is clipped
    bins = [(scale > low) & (scale < low + 0.2) for low in (0.1, 0.7)]
    small, large = ((noise[one] / scale[one, None]).std() for one in bins)
    assert large == pytest.approx(float(small), rel=0.03)


@pytest.mark.parametrize("method", list(Method))
def test_no_target_lies_beyond_what_was_demonstrated(frames, factors, method):
    index = torch.arange(len(frames)).repeat(20)
    chunk, _ = Targets(frames, HORIZON, method, 50.0, factors).draw(index, torch.Generator().manual_seed(0))
    assert (chunk >= frames.action.amin(0)).all()
    assert (chunk <= frames.action.amax(0)).all()


def test_a_dimension_that_never_varied_gets_no_noise(frames, factors):
    frames.action[:, 1] = 0.25
    for method in (Method.POSTBC, Method.SIGMA_BC):
        chunk, _ = Targets(frames, HORIZON, method, 1.0, factors).draw(torch.arange(40), torch.Generator())
        assert (chunk[..., 1] == 0.25).all()
        assert matched_sigma(factors, frames) > 0


def test_a_posterior_method_needs_a_posterior(frames):
    with pytest.raises(ValueError, match="postbc needs"):
        Targets(frames, HORIZON, Method.POSTBC)


def test_sizes_follow_the_configuration():
    config = PretrainConfig(alpha=2.0)
    assert size_of(Method.POSTBC, config, 0.3, None) == 2.0
    assert size_of(Method.SIGMA_BC, config, 0.3, None) == 0.6
    assert size_of(Method.SIGMA_BC, PretrainConfig(sigma=0.05), 0.3, None) == 0.05
    assert size_of(Method.SIGMA_BC, PretrainConfig(sigma=0.05, alpha="auto"), 0.3, None) == 0.05  # α is not asked for
    assert size_of(Method.POSTBC_MIXTURE, PretrainConfig(alpha="auto"), 0.3, 0.7) == 0.7
    with pytest.raises(ConfigError, match=r"posterior\.folds"):
        size_of(Method.POSTBC, PretrainConfig(alpha="auto"), 0.3, None)


def test_covariance_may_be_kept_by_step_or_by_number(frames, factors):
    index = torch.full((40_000,), 30)
    full = factors.centred[30].T @ factors.centred[30] / 8
    for covariance in ("full", "step", "diagonal"):
        kept = Factors(factors.centred, "toy", covariance, HORIZON)
        found = torch.cov(kept.sample(index, torch.Generator().manual_seed(0)).T)
        step = torch.arange(2 * HORIZON) // 2
        same = {"full": torch.ones(6, 6) > 0, "step": step[:, None] == step, "diagonal": torch.eye(6) > 0}[covariance]
        assert torch.allclose(found, full * same, atol=0.04 * full.abs().max().item())
