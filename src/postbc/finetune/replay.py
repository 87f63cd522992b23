"""Replay of chunk transitions in preallocated tensors; the oldest are overwritten when it is full."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from postbc.config import Config
from postbc.errors import ConfigError
from postbc.sims import get_task
from postbc.sims.vector import Transition

FIELDS = ("obs", "choice", "reward", "bootstrap", "following")


@dataclass(frozen=True)
class Batch:
    """Transitions of B chunks, each over the n ≤ H steps that were executed.

    Observations are raw as they are played, and features of the frozen policy as they are kept.
    """

    obs: Float[Tensor, "B O"]
    choice: Float[Tensor, "B C"]  # what the learner chose: latent noise, or the chunk itself
    reward: Float[Tensor, "B"]  # Σ_{i<n} γ^i r_i
    bootstrap: Float[Tensor, "B"]  # γ^n, or 0 where nothing follows (a time limit is no end)
    following: Float[Tensor, "B O"]  # the observation right after the chunk


def refuse_mixed_rewards(config: Config) -> None:
    """Raise ConfigError where a robot would go on with transitions that were paid otherwise."""
    if get_task(config.task.env).dense and config.replays:
        raise ConfigError(
            f"finetune_robot.replay: what is played in simulation has {config.task.env}'s own reward, a robot's is success "
            "alone; it must be false."
        )


def to_batch(obs: Tensor, choice: Tensor, step: Transition, discount: float, cost: float) -> Batch:
    """Transitions of one vector step; ``cost`` is taken off the task's reward at every control step.

    Σ_{i<n} γ^i (r_i − cost) = Σ_{i<n} γ^i r_i − cost (1 − γ^n) / (1 − γ).

    After a success nothing follows. After a failure nothing does where steps are free; where they cost, they go on to do so,
    as after a time limit: else failing soon would be the cheapest.
    """
    steps = torch.from_numpy(step.steps).float()
    reward = torch.from_numpy(np.asarray(step.reward)).float()
    ended = step.terminated & step.success if cost else step.terminated
    alive = 1 - torch.from_numpy(ended).float()
    spent = steps if discount == 1 else (1 - discount**steps) / (1 - discount)
    return Batch(obs, choice, reward - cost * spent, alive * discount**steps, torch.from_numpy(step.final))


class Replay:
    """Ring buffer of ``capacity`` transitions."""

    def __init__(self, capacity: int, obs_dim: int, choice_dim: int) -> None:
        self.capacity, self.size, self._next = capacity, 0, 0
        widths = {"obs": (obs_dim,), "choice": (choice_dim,), "reward": (), "bootstrap": (), "following": (obs_dim,)}
        self._data = {name: torch.zeros(capacity, *widths[name]) for name in FIELDS}

    def add(self, batch: Batch) -> None:
        """Append every transition of ``batch``; of more than there is room for the last ones."""
        batch = Batch(*(getattr(batch, name)[-self.capacity :] for name in FIELDS))
        count = len(batch.obs)
        rows = (self._next + torch.arange(count)) % self.capacity
        for name in FIELDS:
            self._data[name][rows] = getattr(batch, name).cpu()
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def extend(self, state: dict[str, Tensor | int]) -> None:
        """Append what another replay's :meth:`state` holds, oldest first."""
        oldest = int(state["next"]) % max(1, int(state["size"]))
        parts = {name: torch.as_tensor(state[name]).roll(-oldest, 0)[-self.capacity :] for name in FIELDS}
        self.add(Batch(**parts))

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
