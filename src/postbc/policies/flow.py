"""Flow matching over chunks of actions (Lipman et al. 2023; rectified flow, Liu et al. 2023), sampled by Euler steps.

    x_t = (1 − t) w + t x_1,   w ~ N(0, I),  t ~ U[0, 1],   L = E ‖(x_1 − w) − v_θ(x_t, t, s)‖²
    x ← x + (t_{i+1} − t_i) v_θ(x, t_i, s),   i = 0 … K − 1,   from x = w;   t_i = 1 − (1 − i/K)² (quadratic), i/K (even)

``x_1`` is the normalised, flattened chunk. The end is clipped to the demonstrated range, as diffusion's is.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from postbc.policies.chain import ChainPolicy
from postbc.policies.generative import EVEN, PolicyShape
from postbc.training import Metrics

TIME_SCALE = 100.0  # the embedding's frequencies are made for steps 0 … 99


class FlowPolicy(ChainPolicy):
    """The diffusion policy's network, predicting a velocity."""

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__(shape)
        shares = [number / shape.inference_steps for number in range(shape.inference_steps + 1)]
        self.times = shares if shape.spacing == EVEN else [1 - (1 - share) ** 2 for share in shares]

    def loss(
        self,
        obs: Float[Tensor, "B O"],
        chunk: Float[Tensor, "B H A"],
        generator: torch.Generator,
        scale: Float[Tensor, "B"] | None = None,
    ) -> tuple[Tensor, Metrics]:
        """L of the formula above, a mean over dimensions."""
        x1 = self.normalise(chunk)
        time = torch.rand(len(x1), generator=generator).to(x1.device)
        noise = torch.randn(x1.shape, generator=generator).to(x1.device)
        between = torch.lerp(noise, x1, time[:, None])
        return F.mse_loss(
            self.network(between, TIME_SCALE * time, self.condition(self.observer(obs), scale)), x1 - noise
        ), {}

    def step(
        self, x: Float[Tensor, "B D"], number: int, condition: Float[Tensor, "B C"], noisy: bool = False
    ) -> Float[Tensor, "B D"]:
        """Euler's step, which is the mean of its noisy form as well."""
        time, following = self.times[number], self.times[number + 1]
        velocity: Tensor = self.network_of(number)(x, x.new_full((len(x),), TIME_SCALE * time), condition)
        return x + (following - time) * velocity

    def std(self, number: int) -> float:
        """A flow has no noise of its own."""
        return 0.0
