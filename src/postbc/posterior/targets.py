"""What each method of pretraining does to the demonstrated actions; the rest of training is the same for all.

    bc                   ã = a
    sigma_bc             ã = a + σ z · range/2,              z ~ N(0, I)                    (isotropic, the control)
    postbc               ã = a + α w,                        w ~ N(0, cov(s))               (PostBC, alg. 1)
    postbc_mixture       ã = a + α w with probability ρ, else a                             (what the theory proves)
    postbc_conditional   ã = a + c α w,  the policy reads c; c = 0 with probability ½, else c ~ U[0, 1]

Noise is drawn afresh for every use of a frame. Whatever the method, ã is clipped to the range of the demonstrated
actions, dimension by dimension, in raw units: that is the range which normalisation maps to [-1, 1] and which sampling
clips to, so no policy is asked for an action that nobody has shown. A dimension that never varied gets no noise and is
sampled as it was shown. With α = 0 or σ = 0 the targets, and so the trained policy, equal BC's to the last bit (the
conditional one has an input more).
Half of the conditional draws are exactly 0 because deployment at 0 has to be plain cloning, and a value that a continuous
distribution never takes is not trained.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from postbc.config import Method, PretrainConfig
from postbc.demos.frames import Frames
from postbc.demos.normalizer import half_range
from postbc.errors import ConfigError
from postbc.posterior.factors import Factors


@dataclass(frozen=True)
class Targets:
    """Chunks to imitate, under a method; ``size`` is α for posterior noise and σ for isotropic noise.

    ``factors`` are needed by the methods that use the posterior; ValueError where they are missing.
    """

    frames: Frames
    horizon: int
    method: Method
    size: float = 1.0
    factors: Factors | None = None
    share: float = 0.5  # ρ of the mixture

    def __post_init__(self) -> None:
        """Refuse a posterior method without a posterior."""
        if self.factors is None and self.method not in (Method.BC, Method.SIGMA_BC):
            raise ValueError(f"{self.method} needs the posterior's factors")

    @cached_property
    def bounds(self) -> tuple[Float[Tensor, "A"], Float[Tensor, "A"]]:
        """Smallest and largest demonstrated value of every action dimension."""
        return self.frames.action.amin(0), self.frames.action.amax(0)

    @cached_property
    def half(self) -> Float[Tensor, "A"]:
        """Half of the demonstrated range of every action dimension."""
        return half_range(self.frames.action)

    def draw(
        self, index: Int64[Tensor, "B"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "B H A"], Float[Tensor, "B"] | None]:
        """Chunks (raw units) for the frames ``index``, and what a conditional policy is told about them."""
        chunk = self.frames.chunks(index, self.horizon)
        if self.method is Method.BC:
            return chunk, None
        scale = self._scale(len(index), generator).to(chunk.device)
        noise = self._noise(index, generator).unflatten(1, (self.horizon, -1))
        perturbed = chunk + self.size * scale[:, None, None] * noise
        return perturbed.clamp(*self.bounds), scale if self.method is Method.POSTBC_CONDITIONAL else None

    def noise(self, index: Int64[Tensor, "B"], generator: torch.Generator) -> Float[Tensor, "B H A"]:
        """What :meth:`draw` adds to the demonstrated chunks."""
        return self.draw(index, generator)[0] - self.frames.chunks(index, self.horizon)

    def _scale(self, count: int, generator: torch.Generator) -> Float[Tensor, "B"]:
        """Factor on each frame's noise."""
        if self.method is Method.POSTBC_MIXTURE:
            return (torch.rand(count, generator=generator) < self.share).float()
        if self.method is Method.POSTBC_CONDITIONAL:
            return (2 * torch.rand(count, generator=generator) - 1).clamp(min=0)
        return torch.ones(count)

    def _noise(self, index: Int64[Tensor, "B"], generator: torch.Generator) -> Float[Tensor, "B D"]:
        if self.factors is not None and self.method is not Method.SIGMA_BC:
            return self.factors.sample(index, generator)
        half = self.half.repeat(self.horizon)
        return torch.randn(len(index), len(half), generator=generator).to(half.device) * half


def matched_sigma(factors: Factors, frames: Frames) -> float:
    """σ of isotropic noise with the posterior noise's mean square, in units of half the demonstrated range."""
    half = half_range(frames.action)
    varied = half > 0
    std = factors.std().unflatten(1, (-1, len(half)))[..., varied] / half[varied]
    return float(std.square().mean().sqrt())


def size_of(method: Method, config: PretrainConfig, sigma: float, calibrated: float | None) -> float:
    """α or σ of a method; ``sigma`` is :func:`matched_sigma`, ``calibrated`` the posterior's own α where it has one.

    Raises ConfigError for ``alpha: auto`` without calibration.
    """
    if method is Method.SIGMA_BC and config.sigma != "matched":
        return float(config.sigma)
    alpha = calibrated if config.alpha == "auto" else float(config.alpha)
    if alpha is None:
        raise ConfigError(
            "pretrain.alpha: auto needs a calibrated posterior: posterior.folds of 2 or more, and demonstrations "
            "of which two are left without a fold (3, or 4 with folds: 2)."
        )
    return alpha * sigma if method is Method.SIGMA_BC else alpha
