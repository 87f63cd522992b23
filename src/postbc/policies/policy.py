"""A policy as it is evaluated, registered and deployed: a diffusion policy and how its latent noise is chosen."""

from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.steering import Actor


class Latent(StrEnum):
    """Where the latent noise w comes from."""

    SAMPLE = "sample"  # w ~ N(0, I): the pretrained policy
    ZERO = "zero"  # w = 0: the control that keeps de-noising apart from learning
    STEERED = "steered"  # w = the steering actor's mode: the finetuned policy


class Policy(nn.Module):
    """Raw observations (B, O) → chunks (B, H, A) in raw units."""

    def __init__(self, diffusion: DiffusionPolicy, latent: Latent, actor: Actor | None = None) -> None:
        super().__init__()
        if (latent is Latent.STEERED) != (actor is not None):
            raise ValueError("a steered policy has an actor, any other has none")
        self.diffusion, self.latent, self.actor = diffusion, latent, actor
        self.obs_dim = diffusion.obs_dim
        self.action_dim, self.chunk = diffusion.shape.action_dim, diffusion.shape.chunk

    def noise(self, obs: Float[Tensor, "B O"], normal: Float[Tensor, "B D"] | None = None) -> Float[Tensor, "B D"]:
        """The latent noise for ``obs``; a sampled policy takes the standard ``normal`` numbers given, or draws some."""
        if self.actor is not None:
            return self.actor.mode(self.diffusion.obs_normalizer(obs))
        shape = (len(obs), self.diffusion.latent_dim)
        if self.latent is Latent.ZERO:
            return torch.zeros(shape, device=obs.device)
        return torch.randn(shape, device=obs.device) if normal is None else normal

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "B O"], normal: Float[Tensor, "B D"] | None = None) -> Float[Tensor, "B H A"]:
        """The chunk to execute; ``normal`` makes a sampled policy repeatable."""
        return self.diffusion.sample(obs, self.noise(obs, normal))
