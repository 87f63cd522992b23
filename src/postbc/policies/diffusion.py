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

from postbc.policies.chain import ChainPolicy
from postbc.policies.generative import PolicyShape
from postbc.training import Metrics


def squared_cosine(steps: int) -> Float[Tensor, "K"]:
    """ᾱ_0 … ᾱ_{K−1}, with each β limited to 0.999."""
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    level = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0).float()


class DiffusionPolicy(ChainPolicy):
    """ε-prediction."""

    alphas: Tensor

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__(shape)
        self.register_buffer("alphas", squared_cosine(shape.denoising_steps), persistent=False)
        levels = [float(self.alphas[step]) for step in self.timesteps()]
        self.levels = [*levels, 1.0]  # ᾱ before and after each step

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
        return F.mse_loss(self.network(noisy, step.float(), self.condition(self.observer(obs), scale)), noise), {}

    def timesteps(self) -> list[int]:
        """The denoising steps that DDIM visits, from K − 1 down."""
        total, count = self.shape.denoising_steps, self.shape.inference_steps
        return [round(total - i * total / count) - 1 for i in range(count)]

    def step(
        self, x: Float[Tensor, "B D"], number: int, condition: Float[Tensor, "B C"], noisy: bool = False
    ) -> Float[Tensor, "B D"]:
        """DDIM's step, or the mean of its noisy form: x_j = √ᾱ_j x̂_0 + √(1−ᾱ_j−σ²) ε̂ with ε̂ from the clipped x̂_0."""
        alpha, following = self.levels[number], self.levels[number + 1]
        time = x.new_full((len(x),), self.timesteps()[number])
        epsilon: Tensor = self.network_of(number)(x, time, condition)
        clean: Tensor = ((x - math.sqrt(1 - alpha) * epsilon) / math.sqrt(alpha)).clamp(-1, 1)
        variance = self.std(number) ** 2 if noisy else 0.0
        remaining = (x - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
        return math.sqrt(following) * clean + math.sqrt(max(1 - following - variance, 0.0)) * remaining

    def std(self, number: int) -> float:
        """σ of DDIM at η = 1, the variance of the reverse process: √((1−ᾱ_j)/(1−ᾱ_k)) √(1−ᾱ_k/ᾱ_j)."""
        alpha, following = self.levels[number], self.levels[number + 1]
        return math.sqrt((1 - following) / (1 - alpha) * (1 - alpha / following))
