"""What a finetuner is to the driver, and what those that learn from a replay share."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.adam import AdamW
from postbc.config import FinetuneConfig
from postbc.errors import ConfigError
from postbc.finetune.critics import Critics
from postbc.finetune.replay import Batch, Replay, to_batch
from postbc.policies.generative import GenerativePolicy
from postbc.policies.policy import Policy
from postbc.sims.vector import Transition
from postbc.storage.checkpoint import Nested
from postbc.training import Generators, Metrics


class Learner(ABC):
    """Finetunes a pretrained ``model``; everything it knows is in its modules, its optimisers and :meth:`state`."""

    config: FinetuneConfig
    model: GenerativePolicy
    modules: dict[str, nn.Module]  # what is trained, and what follows it
    optimisers: dict[str, AdamW]
    generators: Generators
    critics: Critics | None  # what values the choices, as an artifact
    cost = 0.0  # taken off the task's reward at every control step
    explores_first = True  # whether `initial_steps` are played before anything is learned
    overlaps = True  # whether it may learn while a chunk that it has chosen is still played

    @abstractmethod
    def act(self, obs: Float[Tensor, "B O"], exploring: bool) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B H A"]]:
        """What is chosen for raw observations, and the chunk to execute."""

    @abstractmethod
    def store(self, obs: Float[Tensor, "B O"], choice: Float[Tensor, "B C"], step: Transition) -> None:
        """Take in what came of it."""

    def cut(self) -> None:  # noqa: B027 - what keeps single transitions has nothing to do
        """The environments begin anew: what was played last is not gone on with."""

    @abstractmethod
    def learn(self, chunks: float) -> Metrics | None:
        """Learn as much as ``chunks`` more chunks played are worth; None where nothing was learned yet."""

    @abstractmethod
    def policy(self) -> Policy:
        """The finetuned policy as it stands, as it is evaluated and deployed."""

    def continue_from(self, policy: Policy, weights: Nested) -> None:
        """Start from what another run of the same algorithm has learned: its policy, and all its modules.

        Raises ConfigError where that run had another form, which would make another policy of the same weights.
        """
        try:
            self.load(weights)
        except (KeyError, RuntimeError) as error:
            raise ConfigError(
                f"the finetuned policy has another form than finetune_robot.finetune asks for (hidden, layers): {error}"
            ) from error

    def experience(self) -> Nested:
        """What was played, as far as it is kept to be learned from again; empty where it is not."""
        return {}

    def recall(self, experience: Nested) -> None:  # noqa: B027 - what keeps nothing has nothing to do
        """Learn from what another run of the same algorithm on the same frozen policy has played as well."""

    def weights(self) -> Nested:
        """All modules, for the best policy of a run."""
        return {name: dict(module.state_dict()) for name, module in self.modules.items()}

    def load(self, weights: Nested) -> None:
        """Put back what :meth:`weights` returned."""
        for name, module in self.modules.items():
            module.load_state_dict(weights[name])

    def state(self) -> Nested:
        """Everything needed to go on exactly from here."""
        return {
            "modules": self.weights(),
            "optimisers": {name: optimiser.state() for name, optimiser in self.optimisers.items()},
            "generators": self.generators.state(),
        }

    def restore(self, state: Nested) -> None:
        """Put back what :meth:`state` returned."""
        self.load(state["modules"])
        for name, optimiser in self.optimisers.items():
            optimiser.restore(state["optimisers"][name])
        self.generators.restore(state["generators"])


class OffPolicy(Learner):
    """Learns from a replay of choices, ``updates_per_chunk`` gradient steps for every chunk played.

    Of raw observations the frozen policy's features are kept: that is all that is learned from.
    """

    def __init__(self, model: GenerativePolicy, config: FinetuneConfig, seed: int, choice_dim: int) -> None:
        self.model, self.config = model.requires_grad_(False), config
        self.generators = Generators(seed, ("weights", "initial", "actor", "replay", "update"))
        torch.manual_seed(self.generators.seed("weights"))
        self.replay = Replay(config.buffer, model.observer.features, choice_dim)
        self.modules, self.optimisers, self._owed = {}, {}, 0.0

    @abstractmethod
    def update(self) -> Metrics:
        """One gradient step on a batch of the replay."""

    def store(self, obs: Float[Tensor, "B O"], choice: Float[Tensor, "B C"], step: Transition) -> None:
        """Keep the transitions; an environment without a start left has none."""
        played = torch.from_numpy(step.steps > 0)
        if not played.all():
            obs, choice, step = obs[played], choice[played], step.of(played.numpy())
        self.take(to_batch(obs, choice, step, self.config.discount, self.cost), choice)

    @torch.no_grad()
    def take(self, batch: Batch, choice: Float[Tensor, "B C"]) -> None:
        """Keep transitions of raw observations."""
        seen, following = self.model.observer(batch.obs), self.model.observer(batch.following)
        self.replay.add(replace(batch, obs=seen, choice=choice, following=following))

    def experience(self) -> Nested:
        """The replay."""
        return self.replay.state()

    def recall(self, experience: Nested) -> None:
        """Put it into the replay, the newest where it is too much."""
        self.replay.extend(experience)

    def learn(self, chunks: float) -> Metrics | None:
        """The gradient steps that are due; metrics of the last."""
        self._owed += self.config.updates_per_chunk * chunks
        metrics = None
        while self._owed >= 1 and self.replay.size:
            self._owed -= 1
            metrics = self.update()
        return metrics

    def state(self) -> Nested:
        """Everything needed to go on exactly from here, the replay with it."""
        return {**super().state(), "replay": self.replay.state(), "owed": self._owed}

    def restore(self, state: Nested) -> None:
        """Put back what :meth:`state` returned."""
        super().restore(state)
        self.replay.restore(state["replay"])
        self._owed = float(state["owed"])


@torch.no_grad()
def follow(target: nn.Module, leader: nn.Module, tau: float) -> None:
    """Move ``target``'s parameters a share ``tau`` of the way to ``leader``'s (Polyak averaging)."""
    torch._foreach_lerp_(list(target.parameters()), list(leader.parameters()), tau)
