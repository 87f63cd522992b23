"""Replay of chunk transitions in preallocated tensors; the oldest are overwritten when it is full."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FIELDS = ("obs", "latent", "reward", "bootstrap", "following")


@dataclass(frozen=True)
class Batch:
    """Transitions of B chunks, each over the n ≤ H steps that were executed.

    Observations are raw as they are played, and features of the frozen policy as they are kept.
    """

    obs: Float[Tensor, "B O"]
    latent: Float[Tensor, "B D"]
    reward: Float[Tensor, "B"]  # Σ_{i<n} γ^i r_i
    bootstrap: Float[Tensor, "B"]  # γ^n, or 0 where the episode ended by itself (a time limit is no end)
    following: Float[Tensor, "B O"]  # the observation right after the chunk


class Replay:
    """Ring buffer of ``capacity`` transitions."""

    def __init__(self, capacity: int, obs_dim: int, latent_dim: int) -> None:
        self.capacity, self.size, self._next = capacity, 0, 0
        widths = {
            "obs": (obs_dim,),
            "latent": (latent_dim,),
            "reward": (),
            "bootstrap": (),
            "following": (obs_dim,),
        }
        self._data = {name: torch.zeros(capacity, *widths[name]) for name in FIELDS}

    def add(self, batch: Batch) -> None:
        """Append every transition of ``batch``."""
        count = len(batch.obs)
        rows = (self._next + torch.arange(count)) % self.capacity
        for name in FIELDS:
            self._data[name][rows] = getattr(batch, name).cpu()
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """``count`` transitions drawn uniformly with replacement."""
        rows = torch.randint(self.size, (count,), generator=generator)
        return Batch(*(self._data[name][rows] for name in FIELDS))

    def state(self) -> dict[str, Tensor | int]:
        """What has been stored, for a checkpoint."""
        return {"size": self.size, "next": self._next, **{k: v[: self.size] for k, v in self._data.items()}}

    def restore(self, state: dict[str, Tensor | int]) -> None:
        """Put back what :meth:`state` returned."""
        self.size, self._next = int(state["size"]), int(state["next"])
        for name in FIELDS:
            self._data[name][: self.size] = state[name]
