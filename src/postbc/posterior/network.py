"""What the kinds of posterior are made of: ranges, prediction in batches, and E small networks as one."""

import math
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.demos.frames import Frames
from postbc.demos.normalizer import MinMax
from postbc.observation import ObsShape
from postbc.observer import Observer


class Regressors(nn.Module):
    """Samples f_1 … f_E of the demonstrator's chunk, normalised by what was demonstrated.

    ``shape`` holds the arguments that build the model again.
    """

    def __init__(self, **shape: Any) -> None:
        super().__init__()
        self.shape = shape
        self.observer = Observer(ObsShape(**shape["obs"]))
        self.obs_dim, self.members = self.observer.shape.row, int(shape["members"])
        self.target_normalizer = MinMax(shape["out_dim"])

    def fit_ranges(self, frames: Frames, targets: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Take the ranges of ``frames`` and ``targets``, move to their device; returns the targets normalised."""
        self.observer.fit(frames)
        self.target_normalizer = MinMax.of(targets)
        self.to(frames.obs.device)
        return self.target_normalizer(targets)  # type: ignore[no-any-return]

    @torch.no_grad()
    def features(self, frames: Frames) -> Float[Tensor, "N F"]:
        """What the members read of every frame."""
        return torch.cat([self.observer(rows) for rows in frames.parts()])

    def normal_predictions(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B E D"]:
        """Normalised chunks of every member from an observation's features."""
        raise NotImplementedError

    @torch.no_grad()
    def predict(self, obs: Float[Tensor, "B O"]) -> Float[Tensor, "B E D"]:
        """Every member's chunk for raw observations, in the actions' raw units, within the demonstrated range."""
        return self.target_normalizer.inverse(self.normal_predictions(self.observer(obs)).clamp(-1, 1))

    def spread(self, obs: Float[Tensor, "B O"], half: Float[Tensor, "A"]) -> Float[Tensor, "B"]:
        """Root mean square deviation of the members' chunks from their mean, in half ranges ``half`` of the action.

        Dimensions that never varied, those with ``half`` 0, do not count.
        """
        std = self.predict(obs).std(1, correction=0).unflatten(1, (-1, len(half)))
        relative: Tensor = std[..., half > 0] / half[half > 0]
        return relative.square().mean((1, 2)).sqrt()

    def predict_frames(self, frames: Frames) -> Float[Tensor, "N E D"]:
        """Likewise for every frame, part by part."""
        return torch.cat([self.predict(rows) for rows in frames.parts()])


class StackedMlp(nn.Module):
    """E ReLU networks of the same form; weights (E, in, out), so that a layer of all of them is one batched product.

    Their parameters do not touch each other.
    """

    def __init__(self, sizes: list[int], members: int) -> None:
        super().__init__()
        self.members = members
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(members, i, o).uniform_(-1, 1) / math.sqrt(i) for i, o in pairs)
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for _, o in pairs)

    @torch.no_grad()
    def spread_out(self) -> "StackedMlp":
        """Weights that pass on the size of what they read (He et al. 2015), and biases: functions that differ everywhere."""
        for weight, bias in zip(self.weights, self.biases, strict=True):
            weight.mul_(math.sqrt(6))
            bias.uniform_(-1, 1)
        return self

    def features(self, x: Float[Tensor, "E B O"]) -> Float[Tensor, "E B F"]:
        """What the last layer reads."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.relu(torch.baddbmm(bias, x, weight))
        return x

    def forward(self, x: Float[Tensor, "E B O"]) -> Float[Tensor, "E B D"]:
        """One batch a member."""
        return torch.baddbmm(self.biases[-1], self.features(x), self.weights[-1])
