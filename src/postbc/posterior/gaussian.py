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


def posterior(
    samples: Float[np.ndarray, "T D"], sigma: Float[np.ndarray, "D D"], prior: Float[np.ndarray, "D D"]
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]:
    """Mean and covariance Λ of μ | x (lemma 6); T = 0 gives the prior.

    ``sigma`` Σ and ``prior`` Λ₀ are symmetric and positive definite; numpy raises LinAlgError where they are singular.
    """
    noise, weight = np.linalg.inv(sigma), np.linalg.inv(prior)
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

    Covariances as for :func:`posterior`; numpy raises LinAlgError where one is not positive definite.
    """
    spread, centre = np.linalg.cholesky(sigma), np.linalg.cholesky(prior)
    targets = samples + rng.standard_normal((draws, *samples.shape)) @ spread.T
    anchors = rng.standard_normal((draws, samples.shape[1])) @ centre.T
    noise, weight = np.linalg.inv(sigma), np.linalg.inv(prior)
    # Where the gradient vanishes: (Λ₀⁻¹ + T Σ⁻¹) μ̂ = Σ⁻¹ Σ_t x̃_t + Λ₀⁻¹ μ̃. Rows are draws and both inverses symmetric.
    right = targets.sum(1) @ noise + anchors @ weight
    return np.asarray(np.linalg.solve(weight + len(samples) * noise, right.T).T)
