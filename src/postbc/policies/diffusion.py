"""Diffusion policy over chunks of actions (Ho et al. 2020, Chi et al. 2023), sampled by DDIM (Song et al. 2021).

    x_k = √ᾱ_k x_0 + √(1 − ᾱ_k) ε,   ᾱ the squared-cosine schedule (Nichol & Dhariwal 2021)
    L = E ‖ε − ε_θ(x_k, k, s)‖²,  k ~ U{0 … K−1}
    DDIM:  x̂_0 = clip((x_k − √(1−ᾱ_k) ε_θ)/√ᾱ_k, ±1),   x_j = √ᾱ_j x̂_0 + √(1−ᾱ_j) (x_k − √ᾱ_k x̂_0)/√(1−ᾱ_k)

``x_0`` is the normalised, flattened chunk; the latent noise w is x_{K−1}. Departure from the DPPO code: DDIM visits steps
spaced from K − 1 down ("trailing"), where theirs starts at 84 of 100 and so reads noise of the wrong size.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from postbc.policies.generative import GenerativePolicy, PolicyShape
from postbc.policies.networks import TimedMlp
from postbc.training import Metrics


def squared_cosine(steps: int) -> Float[Tensor, "K"]:
    """ᾱ_0 … ᾱ_{K−1}, with each β limited to 0.999."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    level = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0).float()


class DiffusionPolicy(GenerativePolicy):
    """ε-prediction; w has the chunk's own D = H·A dimensions."""

    alphas: Tensor

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__(shape)
        self.epsilon = TimedMlp(self.latent_dim, self.condition_dim, shape.hidden, shape.layers)
        self.register_buffer("alphas", squared_cosine(shape.denoising_steps), persistent=False)

    def loss(
        self,
        obs: Float[Tensor, "B O"],
        chunk: Float[Tensor, "B H A"],
        generator: torch.Generator,
        scale: Float[Tensor, "B"] | None = None,
    ) -> tuple[Tensor, Metrics]:
        """L of the formula above, a mean over dimensions."""
        x0 = self.normalise(chunk)
        step = torch.randint(self.shape.denoising_steps, (len(x0),), generator=generator).to(x0.device)
        noise = torch.randn(x0.shape, generator=generator).to(x0.device)
        alpha = self.alphas[step][:, None]
        noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        return F.mse_loss(self.epsilon(noisy, step.float(), self.condition(self.observer(obs), scale)), noise), {}

    def timesteps(self) -> list[int]:
        """The denoising steps that DDIM visits, from K − 1 down."""
        total, count = self.shape.denoising_steps, self.shape.inference_steps
        return [round(total - i * total / count) - 1 for i in range(count)]

    def generate(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B W"], scale: Float[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B H A"]:
        """The chunk that DDIM reaches from the latent ``noise``; deterministic and differentiable."""
        condition, x, steps = self.condition(features, scale), noise, self.timesteps()
        for current, following in zip(steps, [*steps[1:], None], strict=True):
            alpha = self.alphas[current]
            epsilon = self.epsilon(x, x.new_full((len(x),), current), condition)
            clean = ((x - (1 - alpha).sqrt() * epsilon) / alpha.sqrt()).clamp(-1, 1)
            if following is None:
                return self.raw(clean)
            remaining = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            x = self.alphas[following].sqrt() * clean + (1 - self.alphas[following]).sqrt() * remaining
        raise AssertionError("unreachable: there is at least one step")
