"""How large the posterior noise is and where: numbers for metrics."""

import math
from typing import Any

import torch

from postbc.demos.frames import Frames
from postbc.posterior.factors import Factors


def summarise(factors: Factors, frames: Frames, horizon: int) -> dict[str, Any]:
    """Size, rank and per-dimension share of the noise.

    ``spread`` is the root mean square noise over the root mean square deviation of the actions from their mean, so 1
    means noise as large as the actions themselves. ``rank`` is the mean participation ratio of the covariance's spectrum.
    """
    variance = factors.std().square().unflatten(1, (horizon, -1)).mean((0, 1))
    action = frames.action.var(0, unbiased=False)
    sample = factors.centred[:: max(1, len(frames) // 256)]
    spectrum = torch.linalg.svdvals(sample).square()
    rank = spectrum.sum(1).square() / spectrum.square().sum(1).clamp_min(1e-12)
    return {
        "spread": math.sqrt(float(variance.sum() / action.sum().clamp_min(1e-12))),
        "rank": float(rank.mean()),
        "share": {f"action_{i}": float(v / variance.sum().clamp_min(1e-12)) for i, v in enumerate(variance)},
    }
