"""Diffusion policy over chunks of actions (Ho et al. 2020, Chi et al. 2023), sampled by DDIM (Song et al. 2021).

    x_k = √ᾱ_k x_0 + √(1 − ᾱ_k) ε,   ᾱ the squared-cosine schedule (Nichol & Dhariwal 2021)
    L = E ‖ε − ε_θ(x_k, k, s)‖²,  k ~ U{0 … K−1}
    DDIM:  x̂_0 = clip((x_k − √(1−ᾱ_k) ε_θ)/√ᾱ_k, ±1),   x_j = √ᾱ_j x̂_0 + √(1−ᾱ_j) (x_k − √ᾱ_k x̂_0)/√(1−ᾱ_k)

``x_0`` is the normalised, flattened chunk. Sampling is deterministic in the latent noise w = x_{K−1}, which is what lets
DSRL act through it. Departure from the DPPO code: DDIM visits steps spaced from K − 1 down ("trailing"), where theirs
starts at 84 of 100 and so reads noise of the wrong size.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from postbc.demos.normalizer import MinMax
from postbc.policies.networks import ResidualMlp, TimeEmbedding


@dataclass(frozen=True)
class DiffusionShape:
    """Everything needed to build a diffusion policy before its weights are loaded."""

    state_dim: int  # first part of the observation: the robot's own state
    environment_dim: int  # second part: the objects'
    action_dim: int
    chunk: int
    hidden: int
    layers: int
    denoising_steps: int
    inference_steps: int


def squared_cosine(steps: int) -> Float[Tensor, "K"]:
    """ᾱ_0 … ᾱ_{K−1}, with each β limited to 0.999."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    level = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0).float()


class DiffusionPolicy(nn.Module):
    """Chunks (B, H, A) in raw units from raw observations (B, O) and latent noise (B, D), D = H·A."""

    alphas: Tensor

    def __init__(self, shape: DiffusionShape) -> None:
        super().__init__()
        self.shape = shape
        self.obs_dim, self.latent_dim = (
            shape.state_dim + shape.environment_dim,
            shape.chunk * shape.action_dim,
        )
        self.obs_normalizer, self.action_normalizer = MinMax(self.obs_dim), MinMax(shape.action_dim)
        self.time = TimeEmbedding()
        width = self.latent_dim + 2 * len(self.time.frequencies) + self.obs_dim
        self.network = ResidualMlp(width, self.latent_dim, shape.hidden, shape.layers)
        self.register_buffer("alphas", squared_cosine(shape.denoising_steps), persistent=False)

    def epsilon(
        self, x: Float[Tensor, "B D"], step: Float[Tensor, "B"], obs: Float[Tensor, "B O"]
    ) -> Float[Tensor, "B D"]:
        """Predicted noise in ``x`` at ``step``, for normalised observations."""
        return self.network(torch.cat([x, self.time(step), obs], dim=1))  # type: ignore[no-any-return]

    def loss(
        self, obs: Float[Tensor, "B O"], chunk: Float[Tensor, "B H A"], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """Denoising loss for raw observations and the chunks to imitate; randomness from ``generator`` (CPU)."""
        x0 = self.action_normalizer(chunk).flatten(1)
        step = torch.randint(self.shape.denoising_steps, (len(x0),), generator=generator).to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        alpha = self.alphas[step][:, None]
        noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        return F.mse_loss(self.epsilon(noisy, step.float(), self.obs_normalizer(obs)), noise), {}

    def timesteps(self) -> list[int]:
        """The denoising steps that DDIM visits, from K − 1 down."""
        total, count = self.shape.denoising_steps, self.shape.inference_steps
        return [round(total - i * total / count) - 1 for i in range(count)]

    def sample(self, obs: Float[Tensor, "B O"], noise: Float[Tensor, "B D"]) -> Float[Tensor, "B H A"]:
        """The chunk that DDIM reaches from the latent ``noise``; deterministic and differentiable."""
        normal, x, steps = self.obs_normalizer(obs), noise, self.timesteps()
        for current, following in zip(steps, [*steps[1:], None], strict=True):
            alpha = self.alphas[current]
            epsilon = self.epsilon(x, x.new_full((len(x),), current), normal)
            clean = ((x - (1 - alpha).sqrt() * epsilon) / alpha.sqrt()).clamp(-1, 1)
            if following is None:
                return self.action_normalizer.inverse(clean.unflatten(1, (self.shape.chunk, -1)))
            remaining = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            x = self.alphas[following].sqrt() * clean + (1 - self.alphas[following]).sqrt() * remaining
        raise AssertionError("unreachable: there is at least one step")
