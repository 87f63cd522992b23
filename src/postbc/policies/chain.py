"""What diffusion and flow share: a chunk is reached from latent noise in K steps of a network, the last K' perhaps of another.

    x_{j+1} = m(x_j, j, s),  j = 0 … K − 1,   x_0 = w;   the chunk is x_K, clipped to the demonstrated range

Deterministic where it is deployed; with noise of standard deviation ``std(j)`` around a mean of its own where a finetuner
explores by it. A policy that was finetuned through its last K' steps (DPPO) carries both networks.
"""

import copy
from dataclasses import replace
from typing import Self

from jaxtyping import Float
from torch import Tensor

from postbc.policies.generative import GenerativePolicy, PolicyShape
from postbc.policies.networks import TimedMlp


class ChainPolicy(GenerativePolicy):
    """w has the chunk's own D = H·A dimensions."""

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__(shape)
        self.network = TimedMlp(self.latent_dim, self.condition_dim, shape.hidden, shape.layers)
        self.tuned = copy.deepcopy(self.network) if shape.tuned_steps else None

    def step(
        self, x: Float[Tensor, "B D"], number: int, condition: Float[Tensor, "B C"], noisy: bool = False
    ) -> Float[Tensor, "B D"]:
        """m(x, number, s); with ``noisy`` the mean of the step around which noise of ``std(number)`` is drawn."""
        raise NotImplementedError

    def std(self, number: int) -> float:
        """Standard deviation that a noisy step ``number`` has by itself."""
        raise NotImplementedError

    def network_of(self, number: int) -> TimedMlp:
        """The network of step ``number``."""
        late = number >= self.shape.inference_steps - self.shape.tuned_steps
        return self.tuned if self.tuned is not None and late else self.network

    def generate(
        self, features: Float[Tensor, "B F"], noise: Float[Tensor, "B W"], scale: Float[Tensor, "B"] | None = None
    ) -> Float[Tensor, "B H A"]:
        """The chunk at the end of the chain; deterministic and differentiable."""
        condition, x = self.condition(features, scale), noise
        for number in range(self.shape.inference_steps):
            x = self.step(x, number, condition)
        return self.raw(x.clamp(-1, 1))

    def with_tuned(self, steps: int) -> Self:
        """A copy whose last ``steps`` steps have a network of their own, equal to the present one to begin with."""
        other = type(self)(replace(self.shape, tuned_steps=steps))
        last = self.network_of(self.shape.inference_steps - 1).state_dict()
        weights = {k: v for k, v in self.state_dict().items() if not k.startswith("tuned.")}
        other.load_state_dict(weights | {f"tuned.{k}": v for k, v in last.items()})
        return other.to(next(self.parameters()).device).eval()
