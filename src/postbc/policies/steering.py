"""The steering actor of DSRL: a squashed Gaussian over the latent noise of a frozen policy.

    w = b · tanh(μ(s) + σ(s) ξ),   ξ ~ N(0, I);   log π(w | s) of the variable u = w / b in (−1, 1)^D

It lives with the policies because a finetuned policy is the frozen one plus this actor, saved in one folder.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from postbc.policies.networks import ResidualMlp

LOG_STD = 3.5  # log σ lies in [−LOG_STD, LOG_STD]


class Actor(nn.Module):
    """w (B, D) in [-bound, bound] from normalised observations (B, O)."""

    def __init__(self, obs_dim: int, latent_dim: int, hidden: int, layers: int, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.network = ResidualMlp(obs_dim, 2 * latent_dim, hidden, layers)
        nn.init.zeros_(self.network.last.bias)
        with torch.no_grad():
            self.network.last.weight.mul_(0.01)  # starts near w = 0 with unit pre-squash deviation

    def _gaussian(self, obs: Float[Tensor, "B O"]) -> tuple[Tensor, Tensor]:
        mean, raw = self.network(obs).chunk(2, dim=1)
        return mean, LOG_STD * torch.tanh(raw)

    def sample(
        self, obs: Float[Tensor, "B O"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """A reparameterised draw of w and log π(w / bound | s)."""
        mean, log_std = self._gaussian(obs)
        xi = torch.randn(mean.shape, generator=generator).to(mean.device)
        pre = mean + log_std.exp() * xi
        log_gaussian = -0.5 * xi.square() - log_std - 0.5 * math.log(2 * math.pi)
        log_tanh = 2 * (math.log(2) - pre - F.softplus(-2 * pre))  # log(1 − tanh²), stable for large |pre|
        return self.bound * torch.tanh(pre), (log_gaussian - log_tanh).sum(1)

    def mode(self, obs: Float[Tensor, "B O"]) -> Float[Tensor, "B D"]:
        """The squashed mean, played when the policy is evaluated or deployed."""
        return self.bound * torch.tanh(self._gaussian(obs)[0])
