"""Conditional variational autoencoder over chunks of actions (Kingma & Welling 2014, Sohn et al. 2015).

    L = (1/D) E_q[‖x − x̂_θ(w, s)‖²] + (β/D) KL(q_φ(w | x, s) ‖ N(0, I)),   q_φ Gaussian with a diagonal covariance

``x`` is the normalised, flattened chunk. β = 2σ² is the Gaussian decoder's variance σ² = 0.01 (in units of half the
demonstrated range); deployed, the decoder reads w ~ N(0, I) and plays its mean.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from postbc.policies.generative import GenerativePolicy, PolicyShape
from postbc.policies.networks import ResidualMlp
from postbc.training import Metrics

LATENT = 8
BETA = 0.02


class CvaePolicy(GenerativePolicy):
    """w has LATENT dimensions."""

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__(shape, LATENT)
        inner = shape.hidden, shape.layers
        self.encoder = ResidualMlp(shape.chunk_dim + self.condition_dim, 2 * LATENT, *inner)
        self.decoder = ResidualMlp(LATENT + self.condition_dim, shape.chunk_dim, *inner)

    def loss(
        self,
        obs: Float[Tensor, "B O"],
        chunk: Float[Tensor, "B H A"],
        generator: torch.Generator,
        scale: Float[Tensor, "B"] | None = None,
    ) -> tuple[Tensor, Metrics]:
        """L of the formula above; ``kl`` in nats."""
        x, condition = self.normalise(chunk), self.condition(self.observer(obs), scale)
        mean, log_std = self.encoder(torch.cat([x, condition], dim=1)).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        decoded = self.decoder(torch.cat([mean + log_std.exp() * noise, condition], dim=1))
        kl = (0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std).sum(1).mean()
        return F.mse_loss(decoded, x) + BETA * kl / x.shape[1], {"kl": float(kl.detach())}

    def generate(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B W"], scale: Float[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B H A"]:
        """The chunk that the decoder gives for ``noise``; deterministic and differentiable."""
        decoded = self.decoder(torch.cat([noise, self.condition(features, scale)], dim=1))
        return self.raw(decoded.clamp(-1, 1))
