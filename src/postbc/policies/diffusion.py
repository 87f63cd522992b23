"""Diffusion policy over chunks of actions (Ho et al. 2020, Chi et al. 2023), sampled by DDIM (Song et al. 2021).

    x_k = √ᾱ_k x_0 + √(1 − ᾱ_k) ε,   ᾱ the squared-cosine schedule (Nichol & Dhariwal 2021)
    L = E ‖ε − ε_θ(x_k, k, s)‖²,  k ~ U{0 … K−1}
    DDIM:  x̂_0 = clip((x_k − √(1−ᾱ_k) ε_θ)/√ᾱ_k, ±1),   x_j = √ᾱ_j x̂_0 + √(1−ᾱ_j) (x_k − √ᾱ_k x̂_0)/√(1−ᾱ_k)

``x_0`` is the normalised, flattened chunk; the latent noise w is the x_k of the first step that is visited. Those are, of n:

    quadratic   k_i = max(k_0 (1 − i/(n−1))², n − 1 − i),   i = 0 … n − 1;  k_0: the last k with 1/√ᾱ_k ≤ MAGNIFIED
    even        k_i = K − 1 − i K/n

Even steps begin at K − 1, where x̂_0 magnifies the errors of ε_θ 2,000 times (of 100 steps) and is noise at ±1: the action
jumps as w moves. They end at k = 11, from where what varies by less than √(1 − ᾱ_11), 0.2 half ranges, mostly comes out as
its mean. Quadratic spacing is what Song et al. use for images, here from a step that still tells something. The DPPO code
visits 84, 72 … 0 of 100.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from postbc.policies.chain import ChainPolicy
from postbc.policies.generative import EVEN, PolicyShape
from postbc.training import Metrics

MAGNIFIED = 20.0


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
        self.timesteps = self._visited()
        self.levels = [*(float(self.alphas[step]) for step in self.timesteps), 1.0]  # ᾱ before and after each step

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

    def _visited(self) -> list[int]:
        """The denoising steps that DDIM visits, noisiest first."""
        total, count = self.shape.denoising_steps, self.shape.inference_steps
        if self.shape.spacing == EVEN:
            return [round(total - i * total / count) - 1 for i in range(count)]
        first = int((self.alphas.rsqrt() <= MAGNIFIED).sum()) - 1
        shares = torch.linspace(1, 0, count, dtype=torch.float64).tolist()
        return [max(round(first * share**2), count - 1 - i) for i, share in enumerate(shares)]

    def step(
        self, x: Float[Tensor, "B D"], number: int, condition: Float[Tensor, "B C"], noisy: bool = False
    ) -> Float[Tensor, "B D"]:
        """DDIM's step, or the mean of its noisy form: x_j = √ᾱ_j x̂_0 + √(1−ᾱ_j−σ²) ε̂ with ε̂ from the clipped x̂_0."""
        alpha, following = self.levels[number], self.levels[number + 1]
        time = x.new_full((len(x),), self.timesteps[number])
        epsilon: Tensor = self.network_of(number)(x, time, condition)
        clean: Tensor = ((x - math.sqrt(1 - alpha) * epsilon) / math.sqrt(alpha)).clamp(-1, 1)
        variance = self.std(number) ** 2 if noisy else 0.0
        remaining = (x - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
        return math.sqrt(following) * clean + math.sqrt(max(1 - following - variance, 0.0)) * remaining

    def std(self, number: int) -> float:
        """σ of DDIM at η = 1, the variance of the reverse process: √((1−ᾱ_j)/(1−ᾱ_k)) √(1−ᾱ_k/ᾱ_j)."""
        alpha, following = self.levels[number], self.levels[number + 1]
        return math.sqrt((1 - following) / (1 - alpha) * (1 - alpha / following))
