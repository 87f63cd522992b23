"""A closed form beside the ensemble: Bayesian linear regression on the features of one trained network.

    a_d(s) = m_dᵀ φ(s),   m_d ~ N(0, I/λ_d),   residual ~ N(0, 1/β_d)      ⇒   m_d | D ~ N(μ_d, (λ_d I + β_d ΦᵀΦ/τ)⁻¹)

λ_d and β_d maximise the evidence (MacKay 1992), one pair for each of the D numbers of a chunk. The residuals of
neighbouring frames are nearly copies, so the N frames count as N/τ, τ = 1 + 2 Σ_k ρ_k being the integrated
autocorrelation time of the residuals along episodes, measured. ``members`` draws from that posterior stand where an
ensemble's members do; the residuals' correlation between dimensions is carried over to the draws.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames
from postbc.posterior.encoder import fit_encoder
from postbc.posterior.network import Regressors, StackedMlp
from postbc.storage.checkpoint import Checkpoints
from postbc.training import Generators, Metrics, Run, Schedule, train

EVIDENCE_STEPS = 100
FLOOR = 1e-8  # of variances, in squared half ranges


class LastLayer(Regressors):
    """One network, and E draws of its last layer from their posterior."""

    def __init__(self, obs: dict[str, Any], out_dim: int, members: int, hidden: int, layers: int) -> None:
        super().__init__(obs=obs, out_dim=out_dim, members=members, hidden=hidden, layers=layers)
        self.network = StackedMlp([self.observer.features] + [hidden] * layers + [out_dim], 1)
        self.register_buffer("mean", torch.zeros(hidden + 1, out_dim))
        self.register_buffer("draws", torch.zeros(hidden + 1, members, out_dim))

    mean: Tensor
    draws: Tensor

    @torch.no_grad()
    def hidden(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B W"]:
        """The last hidden layer and a constant, for an observation's features."""
        return F.pad(self.network.features(features[None])[0], (0, 1), value=1.0)

    def normal_predictions(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B E D"]:
        """Normalised chunks of every draw from an observation's features."""
        hidden = self.hidden(features)
        return (hidden @ self.mean)[:, None] + torch.einsum("bf,fed->bed", hidden, self.draws)


def autocorrelation_time(residual: Float[Tensor, "N D"], frames: Frames) -> float:
    """τ = 1 + 2 Σ_k ρ_k of ``residual`` along episodes, summed up to the first ρ_k below 0.05; at least 1."""
    total, variance = 1.0, residual.square().mean().clamp_min(FLOOR)
    for lag in range(1, len(frames)):
        together = frames.episode[lag:] == frames.episode[:-lag]
        if not together.any():
            break
        rho = float((residual[lag:] * residual[:-lag])[together].mean() / variance)
        if rho < 0.05:
            break
        total += 2 * rho
    return total


def evidence(
    eigen: Float[Tensor, "F"], projected: Float[Tensor, "F D"], total: Float[Tensor, "D"], count: float
) -> tuple[Float[Tensor, "D"], Float[Tensor, "D"]]:
    """λ and β that maximise the evidence, by MacKay's fixed point.

    ``eigen`` are ΦᵀΦ's eigenvalues, ``projected`` is Φᵀy in their basis, ``total`` is Σ y², all already divided by τ;
    ``count`` is N/τ.
    """
    prior, noise = torch.ones_like(total), torch.ones_like(total) * 100
    for _ in range(EVIDENCE_STEPS):
        weights = noise * projected / (prior + noise * eigen[:, None])
        known = (noise * eigen[:, None] / (prior + noise * eigen[:, None])).sum(0)
        error = total - 2 * (weights * projected).sum(0) + (weights.square() * eigen[:, None]).sum(0)
        prior = known / weights.square().sum(0).clamp_min(FLOOR)
        noise = (count - known).clamp_min(1) / error.clamp_min(FLOOR * count)
    return prior, noise


def _condition(model: LastLayer, frames: Frames, normal: Float[Tensor, "N D"], generator: torch.Generator) -> float:
    """Fill in the posterior's mean and draws; returns τ."""
    # On the CPU, by singular values: what else solves least squares there and on a GPU fails at a feature that is always zero.
    features, y = (part.double().cpu() for part in (model.hidden(model.features(frames)), normal))
    residual = y - features @ torch.linalg.lstsq(features, y, driver="gelsd").solution
    tau = autocorrelation_time(residual, frames.to(y.device))
    eigen, basis = torch.linalg.eigh(features.T @ features / tau)
    eigen, projected = eigen.clamp_min(0), basis.T @ (features.T @ y) / tau
    prior, noise = evidence(eigen, projected, y.square().sum(0) / tau, len(y) / tau)
    precision = prior + noise * eigen[:, None]
    z = torch.randn(len(eigen), model.draws.shape[1], y.shape[1], generator=generator, dtype=torch.double).to(y.device)
    model.mean.copy_(basis @ (noise * projected / precision))
    model.draws.copy_(torch.einsum("fg,ged->fed", basis, z @ _correlation(residual).T / precision.sqrt()[:, None]))
    return tau


def _correlation(residual: Float[Tensor, "N D"]) -> Float[Tensor, "D D"]:
    """Cholesky factor of the residuals' correlation; dimensions that never vary are independent of the others."""
    scaled = residual / residual.square().mean(0).sqrt().clamp_min(FLOOR)
    correlation = scaled.T @ scaled / len(scaled)
    correlation.fill_diagonal_(1.0)
    factor: Tensor = torch.linalg.cholesky(0.999 * correlation + 0.001 * torch.eye(len(correlation)).to(correlation))
    return factor


def fit_last_layer(
    frames: Frames, horizon: int, config: PosteriorConfig, seed: int, checkpoints: Checkpoints
) -> tuple[LastLayer, list[Metrics]]:
    """Train one network on all frames, then condition its last layer on them; returns it and the loss curve."""
    generators = Generators(seed, ("draws", "order", "weights"))
    torch.manual_seed(generators.seed("weights"))
    targets = frames.all_chunks(horizon)
    model = LastLayer(frames.shape.json(), targets.shape[1], config.members, config.hidden, config.layers)
    normal = model.fit_ranges(frames, targets)
    fit_encoder(model.observer, frames, normal, config, seed, checkpoints)
    features = model.features(frames)

    def loss() -> tuple[Tensor, Metrics]:
        index = torch.randint(len(frames), (config.batch,), generator=generators["order"]).to(features.device)
        return F.mse_loss(model.network(features[index][None])[0], normal[index]), {}

    schedule = Schedule(config.steps, config.learning_rate)
    rows = train(Run("posterior", schedule, generators, checkpoints), model.network, loss)
    rows[-1]["autocorrelation_time"] = _condition(model, frames, normal, generators["draws"])
    return model, rows
