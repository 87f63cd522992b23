"""A policy as it is evaluated, registered and deployed: a generative model and how its latent noise is chosen."""

from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.policies.generative import GenerativePolicy
from postbc.policies.steering import Actor


class Latent(StrEnum):
    """Where the latent noise w comes from."""

    SAMPLE = "sample"  # w ~ N(0, I): the pretrained policy
    ZERO = "zero"  # w = 0: the control that keeps de-noising apart from learning
    STEERED = "steered"  # w = the steering actor's mode: the finetuned policy


class Policy(nn.Module):
    """Raw observations (B, O) → chunks (B, H, A) in raw units.

    ``scale`` in [0, 1] is what a conditional policy is told about its coverage: 0 clones, 1 covers.
    """

    def __init__(self, model: GenerativePolicy, latent: Latent, actor: Actor | None = None, scale: float = 0.0) -> None:
        super().__init__()
        if (latent is Latent.STEERED) != (actor is not None):
            raise ValueError("a steered policy has an actor, any other has none")
        self.model, self.latent, self.actor, self.scale = model, latent, actor, scale
        self.obs_dim, self.latent_dim = model.obs_dim, model.latent_dim
        self.action_dim, self.chunk = model.shape.action_dim, model.shape.chunk

    def noise(self, obs: Float[Tensor, "B O"], normal: Float[Tensor, "B W"] | None = None) -> Float[Tensor, "B W"]:
        """The latent noise for ``obs``; a sampled policy takes the standard ``normal`` numbers given, or draws some."""
        if self.actor is not None:
            return self.actor.mode(self.model.observer(obs))
        shape = (len(obs), self.latent_dim)
        if self.latent is Latent.ZERO:
            return torch.zeros(shape, device=obs.device)
        return torch.randn(shape, device=obs.device) if normal is None else normal

    def decode(self, obs: Float[Tensor, "B O"], noise: Float[Tensor, "B W"]) -> Float[Tensor, "B H A"]:
        """The chunk for latent ``noise``, at the policy's scale."""
        return self.model.sample(obs, noise, torch.full((len(obs),), self.scale, device=obs.device))

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "B O"], normal: Float[Tensor, "B W"] | None = None) -> Float[Tensor, "B H A"]:
        """The chunk to execute; ``normal`` makes a sampled policy repeatable."""
        return self.decode(obs, self.noise(obs, normal))
