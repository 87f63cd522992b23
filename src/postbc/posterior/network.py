"""E small networks as one: stacked weights, so that a layer of all of them is one batched matrix product."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StackedMlp(nn.Module):
    """E ReLU networks of the same form; weights (E, in, out). Their parameters do not touch each other."""

    def __init__(self, sizes: list[int], members: int) -> None:
        super().__init__()
        self.members = members
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(members, i, o).uniform_(-1, 1) / math.sqrt(i) for i, o in pairs)
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for _, o in pairs)

    def features(self, x: Float[Tensor, "E B O"]) -> Float[Tensor, "E B F"]:
        """What the last layer reads."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.relu(torch.baddbmm(bias, x, weight))
        return x

    def forward(self, x: Float[Tensor, "E B O"]) -> Float[Tensor, "E B D"]:
        """One batch a member."""
        return torch.baddbmm(self.biases[-1], self.features(x), self.weights[-1])
