"""Affine map of raw numbers to about [-1, 1] and back, from the range of the data; part of every checkpoint."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

CONSTANT = 1e-5  # range below which a dimension counts as one that never varied


def half_range(data: Float[Tensor, "N F"]) -> Float[Tensor, "F"]:
    """Half of every dimension's range; 0 where it never varied."""
    spread = data.amax(0) - data.amin(0)
    return torch.where(spread > CONSTANT, spread / 2, torch.zeros_like(spread))


class MinMax(nn.Module):
    """x ↦ (x - centre) / scale with centre and scale (F,) from the data's minimum and maximum.

    A dimension that never varied has scale 0: it is only shifted, because dividing by its range would blow any later
    change up to enormous values, and its inverse is the centre whatever a network says.
    """

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
        self.centre.copy_((data.amax(0) + data.amin(0)) / 2)
        self.scale.copy_(half_range(data))
        return self

    def forward(self, raw: Float[Tensor, "... F"]) -> Float[Tensor, "... F"]:
        """Raw units → about [-1, 1]."""
        return (raw - self.centre) / torch.where(self.scale > 0, self.scale, 1)

    def inverse(self, normal: Float[Tensor, "... F"]) -> Float[Tensor, "... F"]:
        """About [-1, 1] → raw units."""
        return normal * self.scale + self.centre
