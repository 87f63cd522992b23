"""Networks that policies, actors and critics are built from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualMlp(nn.Module):
    """Linear → ``layers`` pre-activation residual blocks → Linear.

    SiLU rather than Mish: on a CPU Mish costs ten times as much and would dominate the step.
    """

    def __init__(self, in_dim: int, out_dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(in_dim, hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))
        self.blocks = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.last = nn.Linear(hidden, out_dim)

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... P"]:
        """Apply the network."""
        h = self.first(x)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            h = h + block(F.silu(norm(h)))
        return self.last(F.silu(h))  # type: ignore[no-any-return]


class TimeEmbedding(nn.Module):
    """Sinusoids of the denoising step."""

    frequencies: Tensor

    def __init__(self, size: int = 32) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.exp(-torch.linspace(0, 6, size // 2)), persistent=False)

    def forward(self, step: Float[Tensor, "B"]) -> Float[Tensor, "B F"]:
        """Embed steps 0 … K − 1."""
        angle = step[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class TimedMlp(nn.Module):
    """A residual network of a chunk at some time on its way from noise, and of what conditions it."""

    def __init__(self, chunk_dim: int, condition_dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.time = TimeEmbedding()
        width = chunk_dim + 2 * len(self.time.frequencies) + condition_dim
        self.mlp = ResidualMlp(width, chunk_dim, hidden, layers)

    def forward(
        self, x: Float[Tensor, "B D"], time: Float[Tensor, "B"], condition: Float[Tensor, "B C"]
    ) -> Float[Tensor, "B D"]:
        """Apply the network; ``time`` in denoising steps."""
        return self.mlp(torch.cat([x, self.time(time), condition], dim=1))  # type: ignore[no-any-return]
