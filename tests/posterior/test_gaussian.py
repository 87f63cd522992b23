"""Perturbed regressions are draws from the exact posterior: lemmas 6 and 7."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postbc.errors import ConfigError, DataError
from postbc.posterior.gaussian import perturbed_regressions, posterior

DRAWS = 20_000
LIMIT = 5  # standard errors of the Monte Carlo estimate; no entry of 3 cases is beyond by chance
CASES = [(1, 4), (2, 7), (5, 6)]  # D, T


def problem(dimension: int, count: int):
    """Samples, Σ and Λ₀, both full, of different size, with different axes."""
    rng = np.random.default_rng(dimension)
    root, other = rng.standard_normal((2, dimension, dimension))
    sigma = root @ root.T + 0.3 * np.eye(dimension)
    prior = 0.4 * (other @ other.T) + 0.1 * np.eye(dimension)
    return rng.standard_normal((count, dimension)) + 1, sigma, prior


@pytest.mark.parametrize(("dimension", "count"), CASES)
def test_lemma_6_agrees_with_conditioning_the_joint_gaussian(dimension, count):
    samples, sigma, prior = problem(dimension, count)
    # Samples stacked: covariance Λ₀ between any two, and Σ more with itself.
    stacked = np.kron(np.ones((count, count)), prior) + np.kron(np.eye(count), sigma)
    gain = np.kron(np.ones((1, count)), prior) @ np.linalg.inv(stacked)
    mean, covariance = posterior(samples, sigma, prior)
    np.testing.assert_allclose(mean, gain @ samples.ravel())
    np.testing.assert_allclose(covariance, prior - gain @ np.kron(np.ones((count, 1)), prior), atol=1e-10)


def test_lemma_6_in_one_dimension_gives_what_it_gives_by_hand():
    mean, covariance = posterior(np.array([[1.0], [2.0], [6.0]]), np.array([[2.0]]), np.array([[4.0]]))
    assert np.isclose(covariance[0, 0], 1 / (1 / 4 + 3 / 2))
    assert np.isclose(mean[0], (9 / 2) / (1 / 4 + 3 / 2))


@pytest.mark.parametrize(("dimension", "count"), CASES)
def test_lemma_7_perturbed_regressions_have_the_posteriors_mean_and_covariance(dimension, count):
    samples, sigma, prior = problem(dimension, count)
    mean, covariance = posterior(samples, sigma, prior)
    found = perturbed_regressions(samples, sigma, prior, DRAWS, np.random.default_rng(11))
    assert found.shape == (DRAWS, dimension)
    own = covariance.diagonal()
    assert (abs(found.mean(0) - mean) < LIMIT * np.sqrt(own / DRAWS)).all()
    error = np.sqrt((np.outer(own, own) + covariance**2) / DRAWS)  # of an entry of a Wishart matrix
    assert (abs(np.cov(found.T).reshape(covariance.shape) - covariance) < LIMIT * error).all()


def test_lemma_7_holds_in_distribution_not_only_in_two_moments():
    samples, sigma, prior = problem(2, 7)
    mean, covariance = posterior(samples, sigma, prior)
    found = perturbed_regressions(samples, sigma, prior, DRAWS, np.random.default_rng(12))
    distance = np.einsum("nd,de,ne->n", found - mean, np.linalg.inv(covariance), found - mean)
    for level in (0.1, 0.5, 0.9, 0.99):  # chi-squared with 2 degrees of freedom
        inside = (distance < -2 * np.log(1 - level)).mean()
        assert abs(inside - level) < LIMIT * np.sqrt(level * (1 - level) / DRAWS)


def test_without_samples_the_prior_remains():
    _, sigma, prior = problem(2, 1)
    mean, covariance = posterior(np.zeros((0, 2)), sigma, prior)
    np.testing.assert_allclose(mean, 0)
    np.testing.assert_allclose(covariance, prior)
    found = perturbed_regressions(np.zeros((0, 2)), sigma, prior, DRAWS, np.random.default_rng(13))
    np.testing.assert_allclose(np.cov(found.T), prior, rtol=0.1)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 6))
def test_the_posterior_moves_with_the_coordinates_and_never_widens(seed, dimension, count):
    rng = np.random.default_rng(seed)
    _, sigma, prior = problem(dimension, 1)
    samples, turn = rng.standard_normal((count, dimension)), rng.standard_normal((dimension, dimension)) / 3
    turn += 2 * np.eye(dimension)
    mean, covariance = posterior(samples, sigma, prior)
    moved = posterior(samples @ turn.T, turn @ sigma @ turn.T, turn @ prior @ turn.T)
    np.testing.assert_allclose(moved[0], turn @ mean, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(moved[1], turn @ covariance @ turn.T, rtol=1e-5, atol=1e-8)
    # The covariance after all samples is that after the last ones with the first ones' as prior.
    half = posterior(samples[: count // 2], sigma, prior)[1]
    np.testing.assert_allclose(posterior(samples[count // 2 :], sigma, half)[1], covariance, rtol=1e-6, atol=1e-10)
    assert np.linalg.eigvalsh(prior - covariance).min() > -1e-9


def test_a_perturbed_regression_is_the_minimiser_of_its_own_sum_of_squares():
    samples, sigma, prior = problem(2, 7)
    (found,) = perturbed_regressions(samples, sigma, prior, 1, np.random.default_rng(3))
    rng = np.random.default_rng(3)  # the same draws again: targets first, then the anchor
    targets = samples + rng.standard_normal((1, 7, 2))[0] @ np.linalg.cholesky(sigma).T
    anchor = np.linalg.cholesky(prior) @ rng.standard_normal((1, 2))[0]
    # As least squares of whitened rows: L⁻¹ μ ≈ L⁻¹ x̃ a sample, and the anchor with the prior's root.
    white, whole = np.linalg.inv(np.linalg.cholesky(sigma)), np.linalg.inv(np.linalg.cholesky(prior))
    right = np.r_[(targets @ white.T).ravel(), whole @ anchor]
    expected = np.linalg.lstsq(np.vstack([white] * 7 + [whole]), right)[0]
    np.testing.assert_allclose(found, expected)


def test_the_same_seed_gives_the_same_draws():
    one, two = (perturbed_regressions(*problem(2, 7), 5, np.random.default_rng(1)) for _ in range(2))
    assert (one == two).all()


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), -np.eye(2), np.eye(3), np.array([[1.0, 0.5], [0.0, 1.0]])])
def test_what_is_no_covariance_is_refused(wrong):
    samples, sigma, prior = problem(2, 7)
    for matrices in ((wrong, prior), (sigma, wrong)):
        with pytest.raises(DataError, match=r"[Cc]ovariance"):
            posterior(samples, *matrices)
        with pytest.raises(DataError, match=r"[Cc]ovariance"):
            perturbed_regressions(samples, *matrices, 5, np.random.default_rng(1))
    with pytest.raises(ConfigError, match="draws"):
        perturbed_regressions(samples, sigma, prior, 0, np.random.default_rng(1))
