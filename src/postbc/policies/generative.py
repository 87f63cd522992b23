"""What every generative policy is: a map from an observation and latent noise to a chunk of actions, and a loss.

``loss(obs, chunk) → (loss, metrics)`` and ``sample(obs, w) → chunk``, deterministic in w ~ N(0, I): that is what lets
DSRL act through it, and what makes w = 0 a control. A conditional policy also reads how much posterior noise was on the
actions it was trained on (``scale`` in [0, 1]): at 0 it clones, at 1 it covers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.demos.normalizer import MinMax
from postbc.features import Features
from postbc.observation import ObsShape
from postbc.observer import Observer
from postbc.training import Metrics

# How a sampler's steps lie: equally far apart, or ever denser towards the action.
EVEN, QUADRATIC = "even", "quadratic"


@dataclass(frozen=True)
class PolicyShape:
    """Everything needed to build a policy before its weights are loaded."""

    obs: ObsShape
    action_dim: int
    chunk: int
    hidden: int
    layers: int
    denoising_steps: int  # in training (diffusion only)
    inference_steps: int  # of DDIM or Euler
    kind: str = "diffusion"  # a key of postbc.policies.folder.KINDS
    conditional: bool = False  # reads the scale of the posterior noise
    tuned_steps: int = 0  # K', the last steps of a chain that a finetuner gave a network of their own
    features: Features | None = None  # names and units of what it reads and commands, where they are known
    spacing: str = QUADRATIC  # of the inference steps

    @property
    def chunk_dim(self) -> int:
        """D = H·A."""
        return self.chunk * self.action_dim


class GenerativePolicy(nn.Module):
    """Chunks (B, H, A) in raw units from raw observations (B, O) and latent noise (B, ``latent_dim``)."""

    def __init__(self, shape: PolicyShape, latent_dim: int | None = None) -> None:
        super().__init__()
        self.shape, self.obs_dim = shape, shape.obs.row
        self.latent_dim = shape.chunk_dim if latent_dim is None else latent_dim
        self.observer, self.action_normalizer = Observer(shape.obs), MinMax(shape.action_dim)
        self.condition_dim = self.observer.features + shape.conditional

    def condition(self, features: Float[Tensor, "B F"], scale: Float[Tensor, "B"] | None) -> Float[Tensor, "B C"]:
        """What the network is told: features of the observation and, where it is conditional, the scale (default 0)."""
        if not self.shape.conditional:
            return features
        column = features.new_zeros(len(features)) if scale is None else scale.to(features)
        return torch.cat([features, column[:, None]], dim=1)

    def normalise(self, chunk: Float[Tensor, "B H A"]) -> Float[Tensor, "B D"]:
        """Raw chunks, normalised and flattened."""
        return self.action_normalizer(chunk).flatten(1)  # type: ignore[no-any-return]

    def raw(self, normal: Float[Tensor, "B D"]) -> Float[Tensor, "B H A"]:
        """Inverse of :meth:`normalise`."""
        return self.action_normalizer.inverse(normal.unflatten(1, (self.shape.chunk, -1)))

    def loss(
        self,
        obs: Float[Tensor, "B O"],
        chunk: Float[Tensor, "B H A"],
        generator: torch.Generator,
        scale: Float[Tensor, "B"] | None = None,
    ) -> tuple[Tensor, Metrics]:
        """What training minimises, for raw observations and chunks to imitate; randomness from ``generator`` (CPU)."""
        raise NotImplementedError

    def sample(
        self, obs: Float[Tensor, "B O"], noise: Float[Tensor, "B W"], scale: Float[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B H A"]:
        """The chunk that belongs to the latent ``noise``; deterministic and differentiable."""
        return self.generate(self.observer(obs), noise, scale)

    def generate(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B W"], scale: Float[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B H A"]:
        """Likewise from the features of an observation."""
        raise NotImplementedError
