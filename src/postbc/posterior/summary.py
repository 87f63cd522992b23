"""How large the posterior noise is and where: numbers for metrics."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from postbc.demos.frames import Frames
from postbc.demos.normalizer import half_range
from postbc.posterior.factors import Factors


def summarise(factors: Factors, frames: Frames, horizon: int) -> dict[str, Any]:
    """Size, rank and per-dimension share of the noise, all in half ranges: no unit counts for more than another.

    ``spread`` is the root mean square noise over the root mean square deviation of the actions from their mean, so 1
    means noise as large as the actions themselves. ``rank`` is the mean participation ratio of the covariance's spectrum.
    """
    half = half_range(frames.action)
    half = torch.where(half > 0, half, torch.inf)  # what never varied has no noise
    variance = (factors.std().unflatten(1, (horizon, -1)) / half).square().mean((0, 1))
    action = (frames.action / half).var(0, unbiased=False)
    spectrum = _spectrum(factors, factors.centred[:: max(1, len(frames) // 256)] / half.repeat(horizon))
    rank = spectrum.sum(1).square() / spectrum.square().sum(1).clamp_min(1e-12)
    return {
        "spread": math.sqrt(float(variance.sum() / action.sum().clamp_min(1e-12))),
        "rank": float(rank.mean()),
        "share": {f"action_{i}": float(v / variance.sum().clamp_min(1e-12)) for i, v in enumerate(variance)},
    }


def _spectrum(factors: Factors, centred: Float[Tensor, "N E D"]) -> Float[Tensor, "N R"]:
    """Eigenvalues, up to a factor, of the covariance that ``factors`` draw from."""
    if factors.covariance == "diagonal":
        return centred.square().sum(1)
    steps = factors.horizon if factors.covariance == "step" else 1
    values: Tensor = torch.linalg.svdvals(centred.unflatten(2, (steps, -1)).transpose(1, 2))
    return values.square().flatten(1)
