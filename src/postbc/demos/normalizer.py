"""Affine map of raw numbers to about [-1, 1] and back, from the range of the data; part of every checkpoint."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Below this range a dimension counts as constant. Dividing by its range would blow any later change up to enormous
# values, so it is only shifted.
CONSTANT = 1e-5


class MinMax(nn.Module):
    """x ↦ (x - centre) / scale with centre and scale (F,) from the data's minimum and maximum."""

    centre: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @classmethod
    def of(cls, data: Float[Tensor, "N F"]) -> "MinMax":
        """Fit to ``data``."""
        self = cls(data.shape[1])
        low, high = data.amin(0), data.amax(0)
        self.centre.copy_((high + low) / 2)
        self.scale.copy_(torch.where(high - low > CONSTANT, (high - low) / 2, torch.ones_like(low)))
        return self

    def forward(self, raw: Float[Tensor, "... F"]) -> Float[Tensor, "... F"]:
        """Raw units → about [-1, 1]."""
        return (raw - self.centre) / self.scale

    def inverse(self, normal: Float[Tensor, "... F"]) -> Float[Tensor, "... F"]:
        """About [-1, 1] → raw units."""
        return normal * self.scale + self.centre
