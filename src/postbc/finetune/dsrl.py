"""DSRL (Wagenmaker et al. 2025, arXiv 2506.15799): soft actor-critic over the latent noise of a frozen policy.

The policy's chunk is a = π_dp(s, w), deterministic in w; w ∈ [−b, b]^D is the action. With n ≤ H executed steps a chunk:

    y   = Σ_{i<n} γ^i (r_i − 1) + γ^n (1 − terminated) [min_i Q̄_i(s', w') − τ log π(w'|s')],   w' ~ π(·|s')
    L_Q = Σ_i (Q_i(s, w) − y)²
    L_π = τ log π(w|s) − min_i Q_i(s, w),   w ~ π(·|s)
    L_τ = −log τ (log π(w|s) + target entropy)

Departures from the released code, which has these as known bugs: the bound b is really applied to w; the first rollouts
are de-noised once and counted in control steps; running out of time is not the end of an episode, so it bootstraps; γ is
given per control step and raised to the number of steps that a chunk executed. Log-probabilities are those of w / b.
Rewards are shifted by −1, so that every step before success costs one.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.adam import AdamW
from postbc.config import DsrlConfig
from postbc.finetune.critics import Critics, target_of
from postbc.finetune.replay import Batch, Replay
from postbc.policies.generative import GenerativePolicy
from postbc.policies.policy import Latent, Policy
from postbc.policies.steering import Actor
from postbc.storage.checkpoint import Nested
from postbc.training import Generators, Metrics

INITIAL_TEMPERATURE = 0.1


def shifted_reward(reward: Float[Tensor, "B"], steps: Float[Tensor, "B"], discount: float) -> Float[Tensor, "B"]:
    """Σ_{i<n} γ^i (r_i − 1) from Σ_{i<n} γ^i r_i and n."""
    cost = steps if discount == 1 else (1 - discount**steps) / (1 - discount)
    return reward - cost


class Dsrl:
    """Actor, critics, temperature and replay of one run; everything it knows is in :meth:`state`."""

    def __init__(self, model: GenerativePolicy, config: DsrlConfig, seed: int) -> None:
        self.model, self.config = model.requires_grad_(False), config
        self.generators = Generators(seed, ("weights", "initial", "actor", "replay", "update"))
        torch.manual_seed(self.generators.seed("weights"))
        features, latent_dim = model.observer.features, model.latent_dim
        self.actor = Actor(features, latent_dim, config.hidden, config.layers, config.noise_bound)
        self.critics = Critics(model.shape.obs, latent_dim, config.hidden, config.layers)
        self.critics.observer.load_state_dict(model.observer.state_dict())
        self.target = target_of(self.critics)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(INITIAL_TEMPERATURE)))
        self.replay = Replay(config.buffer, features, latent_dim)
        self.continued = False
        self._optimisers = {
            "critics": AdamW(self.critics.heads.parameters(), config.learning_rate),
            "actor": AdamW(self.actor.parameters(), config.learning_rate),
            "temperature": AdamW([self.log_temperature], config.learning_rate),
        }

    def continue_from(self, actor: Actor, critics: Critics) -> None:
        """Start from what another run has learned; there is no need to explore with random noise first."""
        self.actor.load_state_dict(actor.state_dict())
        self.critics.load_state_dict(critics.state_dict())
        self.target.load_state_dict(critics.state_dict())
        self.continued = True

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "B O"], exploring: bool) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B H A"]]:
        """The latent noise to play and its chunk; while ``exploring`` w ~ N(0, I) clipped to the bound."""
        if exploring and not self.continued:
            bound = self.config.noise_bound
            latent = torch.randn(len(obs), self.model.latent_dim, generator=self.generators["initial"])
            latent = latent.clamp(-bound, bound)
        else:
            latent, _ = self.actor.sample(self.model.observer(obs), self.generators["actor"])
        return latent, self.model.sample(obs, latent)

    @torch.no_grad()
    def store(self, batch: Batch) -> None:
        """Keep transitions; of raw observations the frozen policy's features, which is all that is learned from."""
        obs, following = self.model.observer(batch.obs), self.model.observer(batch.following)
        self.replay.add(replace(batch, obs=obs, following=following))

    def update(self) -> Metrics:
        """One gradient step of critics, actor and temperature, one step of the target."""
        batch = self.replay.sample(self.config.batch, self.generators["replay"])
        temperature = self.log_temperature.detach().exp()
        critic_loss, metrics = self._critic_loss(batch, temperature)
        self._optimisers["critics"].minimise(critic_loss)
        latent, log_prob = self.actor.sample(batch.obs, self.generators["update"])
        actor_loss = (temperature * log_prob - self.critics.value(batch.obs, latent)).mean()
        self._optimisers["actor"].minimise(actor_loss)
        entropy_gap = (log_prob + (self.config.target_entropy or 0.0)).detach().mean()
        self._optimisers["temperature"].minimise(-self.log_temperature * entropy_gap)
        self._follow()
        rest = {"actor_loss": actor_loss, "temperature": temperature, "entropy": -log_prob.mean()}
        return metrics | {name: float(value.detach()) for name, value in rest.items()}

    def critic_target(self, batch: Batch, temperature: Tensor) -> Float[Tensor, "B"]:
        """y of the formula above."""
        with torch.no_grad():
            latent, log_prob = self.actor.sample(batch.following, self.generators["update"])
            value = self.target.value(batch.following, latent) - temperature * log_prob
            return batch.reward + batch.bootstrap * value

    def _critic_loss(self, batch: Batch, temperature: Tensor) -> tuple[Tensor, Metrics]:
        estimate = self.critics(batch.obs, batch.latent)
        loss = (estimate - self.critic_target(batch, temperature)).square().mean(1).sum()
        return loss, {"critic_loss": float(loss.detach()), "q": float(estimate.detach().mean())}

    def _follow(self) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target.parameters()), list(self.critics.parameters()), self.config.tau)

    def policy(self) -> Policy:
        """The steered policy as it stands."""
        return Policy(self.model, Latent.STEERED, self.actor).eval()

    def state(self) -> Nested:
        """Everything needed to go on exactly from here."""
        modules = {"actor": self.actor, "critics": self.critics, "target": self.target}
        return {
            "modules": {name: dict(module.state_dict()) for name, module in modules.items()},
            "log_temperature": self.log_temperature.detach(),
            "optimisers": {name: optimiser.state() for name, optimiser in self._optimisers.items()},
            "replay": self.replay.state(),
            "generators": self.generators.state(),
        }

    def restore(self, state: Nested) -> None:
        """Put back what :meth:`state` returned."""
        for name, module in (("actor", self.actor), ("critics", self.critics), ("target", self.target)):
            module.load_state_dict(state["modules"][name])
        with torch.no_grad():
            self.log_temperature.copy_(state["log_temperature"])
        for name, optimiser in self._optimisers.items():
            optimiser.restore(state["optimisers"][name])
        self.replay.restore(state["replay"])
        self.generators.restore(state["generators"])
