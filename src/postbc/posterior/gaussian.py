"""The Gaussian case: perturbed regressions are samples of the posterior (PostBC, arXiv 2512.16911, app. C).

    x_t | μ ~ N(μ, Σ), t = 1 … T,   μ ~ N(0, Λ₀)
    Lemma 6:  μ | x ~ N(Λ Σ⁻¹ Σ_t x_t, Λ),   Λ⁻¹ = Λ₀⁻¹ + T Σ⁻¹
    Lemma 7:  x̃_t = x_t + w_t,  w_t ~ N(0, Σ),  μ̃ ~ N(0, Λ₀)
              μ̂ = argmin_μ Σ_t (μ − x̃_t)ᵀ Σ⁻¹ (μ − x̃_t) + (μ − μ̃)ᵀ Λ₀⁻¹ (μ − μ̃)  is distributed as μ | x, exactly

Lemma 7 is why regressions on perturbed targets, and in practice on bootstrapped ones, stand for the posterior. One line of
the paper's proof prints Λ₀ for Λ₀⁻¹; here it is the inverse throughout.
"""

import numpy as np
from jaxtyping import Float

from postbc.errors import ConfigError, DataError


def posterior(
    samples: Float[np.ndarray, "T D"], sigma: Float[np.ndarray, "D D"], prior: Float[np.ndarray, "D D"]
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]:
    """Mean and covariance Λ of μ | x (lemma 6); T = 0 gives the prior.

    DataError unless ``sigma`` Σ and ``prior`` Λ₀ are symmetric, positive definite and of the samples' dimension.
    """
    (noise, _), (weight, _) = (_inverse_and_root(matrix, samples.shape[1]) for matrix in (sigma, prior))
    covariance = np.linalg.inv(weight + len(samples) * noise)
    return covariance @ noise @ samples.sum(0), covariance


def perturbed_regressions(
    samples: Float[np.ndarray, "T D"],
    sigma: Float[np.ndarray, "D D"],
    prior: Float[np.ndarray, "D D"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n D"]:
    """``draws`` independent minimisers μ̂ of the regression on perturbed targets (lemma 7).

    They come from ``draws`` × T × D normal numbers, held at once. DataError as for :func:`posterior`; ConfigError unless
    ``draws`` is positive.
    """
    if draws < 1:
        raise ConfigError(f"draws = {draws}: expected at least one regression.")
    (noise, spread), (weight, centre) = (_inverse_and_root(matrix, samples.shape[1]) for matrix in (sigma, prior))
    targets = samples + rng.standard_normal((draws, *samples.shape)) @ spread.T
    anchors = rng.standard_normal((draws, samples.shape[1])) @ centre.T
    # Where the gradient vanishes: (Λ₀⁻¹ + T Σ⁻¹) μ̂ = Σ⁻¹ Σ_t x̃_t + Λ₀⁻¹ μ̃. Rows are draws and both inverses symmetric.
    right = targets.sum(1) @ noise + anchors @ weight
    return np.asarray(np.linalg.solve(weight + len(samples) * noise, right.T).T)


def _inverse_and_root(
    matrix: Float[np.ndarray, "D D"], dimension: int
) -> tuple[Float[np.ndarray, "D D"], Float[np.ndarray, "D D"]]:
    """M⁻¹ and the lower triangular L with L Lᵀ = M, of a covariance."""
    if matrix.shape != (dimension, dimension) or not np.allclose(matrix, matrix.T):
        raise DataError(f"Covariance of shape {matrix.shape}: expected a symmetric one of ({dimension}, {dimension}).")
    try:
        root = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError as error:
        raise DataError("A covariance is not positive definite; Σ and Λ₀ both have to be.") from error
    return np.linalg.inv(matrix), root
