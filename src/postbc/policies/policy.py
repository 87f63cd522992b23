"""A policy as it is evaluated, registered and deployed: a generative model and how its latent noise is chosen."""

from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.policies.generative import GenerativePolicy
from postbc.policies.steering import Actor
from postbc.policies.value import TwinValue


class Latent(StrEnum):
    """Where the latent noise w comes from."""

    SAMPLE = "sample"  # w ~ N(0, I): the pretrained policy
    ZERO = "zero"  # w = 0: the control that keeps de-noising apart from learning
    STEERED = "steered"  # w = the steering actor's mode: the policy finetuned by DSRL
    BEST = "best"  # of several w ~ N(0, I) the one whose chunk the critics value most: Best-of-N


class Policy(nn.Module):
    """Raw observations (B, O) → chunks (B, H, A) in raw units.

    ``scale`` in [0, 1] is what a conditional policy is told about its coverage: 0 clones, 1 covers; a steering actor chooses
    it. ``scorer`` and ``samples`` belong to Best-of-N.
    """

    def __init__(
        self,
        model: GenerativePolicy,
        latent: Latent,
        actor: Actor | None = None,
        scale: float = 0.0,
        scorer: TwinValue | None = None,
        samples: int = 1,
    ) -> None:
        super().__init__()
        if (latent is Latent.STEERED) != (actor is not None) or (latent is Latent.BEST) != (scorer is not None):
            raise ValueError(
                "a steered policy has an actor, one that chooses the best has a scorer, any other has neither"
            )
        self.model, self.latent, self.actor, self.scale = model, latent, actor, scale
        self.scorer, self.samples = scorer, samples
        self.obs_dim, self.latent_dim = model.obs_dim, model.latent_dim
        self.action_dim, self.chunk = model.shape.action_dim, model.shape.chunk
        self.normal_dim = samples * model.latent_dim  # standard normal numbers that one decision takes

    def noise(self, features: Float[Tensor, "B F"], normal: Float[Tensor, "B N"] | None = None) -> Float[Tensor, "B W"]:
        """The latent noise for an observation's features; what samples takes ``normal`` numbers, or draws some."""
        if self.actor is not None:
            return self.actor.mode(features)
        if self.latent is Latent.ZERO:
            return torch.zeros(len(features), self.latent_dim, device=features.device)
        if normal is None:
            normal = torch.randn(len(features), self.normal_dim, device=features.device)
        return normal if self.scorer is None else self._best(features, normal.unflatten(1, (self.samples, -1)))

    def _best(self, features: Float[Tensor, "B F"], normal: Float[Tensor, "B N W"]) -> Float[Tensor, "B W"]:
        count, samples = normal.shape[:2]
        repeated = features.repeat_interleave(samples, 0)
        chunks = self.model.normalise(self.decode(repeated, normal.flatten(0, 1)))
        assert self.scorer is not None  # noqa: S101 - the caller asks
        best = self.scorer.value(repeated, chunks).unflatten(0, (count, samples)).argmax(1)
        return normal[torch.arange(count), best]

    def decode(self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B W"]) -> Float[Tensor, "B H A"]:
        """The chunk for latent ``noise``, at the policy's scale or, where there is one number more, at that."""
        scale = torch.full((len(features),), self.scale, device=features.device)
        if noise.shape[1] > self.latent_dim and self.actor is not None:
            noise, chosen = noise[:, :-1], noise[:, -1]
            scale = ((chosen / self.actor.bound + 1) / 2).clamp(0, 1)
        return self.model.generate(features, noise, scale)

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "B O"], normal: Float[Tensor, "B N"] | None = None) -> Float[Tensor, "B H A"]:
        """The chunk to execute; ``normal`` (B, ``normal_dim``) makes a policy that samples repeatable."""
        features = self.model.observer(obs)
        return self.decode(features, self.noise(features, normal))
