"""DSRL (Wagenmaker et al. 2025, arXiv 2506.15799): soft actor-critic over the latent noise of a frozen policy.

The policy's chunk is a = π_dp(s, w), deterministic in w; w ∈ [−b, b]^D is the action. With n ≤ H executed steps a chunk:

    y   = Σ_{i<n} γ^i (r_i − 1) + γ^n (1 − terminated) [min_i Q̄_i(s', w') − τ log π(w'|s')],   w' ~ π(·|s')
    L_Q = Σ_i (Q_i(s, w) − y)²
    L_π = τ log π(w|s) − min_i Q_i(s, w),   w ~ π(·|s)
    L_τ = −log τ (log π(w|s) + target entropy)

``dsrl_na``, the noise-aliased variant, learns the value of actions by the same y, with a' = π_dp(s', w') and Q^A(s, a) in
the place of Q(s, w), and carries it over to the noise at w ~ N(0, I), where many w mean nearly the same action:

    L_W = ½ Σ_i (Q^W_i(s, w) − Q^A_i(s, π_dp(s, w)))²

Its actor climbs Q^W. The conditional policy's noise scale is one more number that the actor chooses, (u + 1)/2 of u ∈ [−1, 1].

Departures from the released code, which has these as known bugs: the bound b is really applied to w; the first rollouts
are de-noised once and counted in control steps; running out of time is not the end of an episode, so it bootstraps; γ is
given per control step and raised to the number of steps that a chunk executed. Log-probabilities are those of w / b.
Rewards are shifted by −1, so that every step before success costs one.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.adam import AdamW
from postbc.config import FinetuneConfig
from postbc.errors import ConfigError
from postbc.finetune.critics import Critics, target_of
from postbc.finetune.learner import OffPolicy, follow
from postbc.finetune.replay import Batch
from postbc.policies.generative import GenerativePolicy
from postbc.policies.policy import Latent, Policy
from postbc.policies.steering import Actor
from postbc.storage.checkpoint import Nested
from postbc.training import Metrics

INITIAL_TEMPERATURE = 0.1


class Temperature(nn.Module):
    """τ > 0."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(INITIAL_TEMPERATURE)))


class Dsrl(OffPolicy):
    """Actor, critics of the noise and temperature."""

    cost = 1.0

    def __init__(
        self, model: GenerativePolicy, config: FinetuneConfig, seed: int, choice_dim: int | None = None
    ) -> None:
        self.width = model.latent_dim + model.shape.conditional
        super().__init__(model, config, seed, choice_dim or self.width)
        form = config.hidden, config.layers
        self.actor = Actor(model.observer.features, self.width, *form, config.noise_bound)
        self.critics: Critics = Critics.of(model.observer, self.width, *form)
        self.target, self.temperature = target_of(self.critics), Temperature()
        self.steered = Policy(model, Latent.STEERED, self.actor).eval()
        self.continued = False
        self.modules = {
            "actor": self.actor,
            "critics": self.critics,
            "target": self.target,
            "temperature": self.temperature,
        }
        self.optimisers = {
            "critics": AdamW(self.critics.twin.parameters(), config.learning_rate),
            "actor": AdamW(self.actor.parameters(), config.learning_rate),
            "temperature": AdamW(self.temperature.parameters(), config.learning_rate),
        }

    def continue_from(self, policy: Policy, weights: Nested) -> None:
        """There is no need to explore with random noise first. Raises ConfigError for another bound of the noise as well."""
        if policy.actor is None or policy.actor.bound != self.config.noise_bound:
            found = policy.actor.bound if policy.actor else "none"
            raise ConfigError(
                f"finetune_robot.finetune.noise_bound = {self.config.noise_bound}, the finetuned policy has {found}: the same "
                "weights would steer otherwise."
            )
        super().continue_from(policy, weights)
        self.continued = True

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "B O"], exploring: bool) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B H A"]]:
        """The latent noise to play and its chunk; while ``exploring`` w ~ N(0, I) clipped to the bound."""
        features = self.model.observer(obs)
        if exploring and not self.continued:
            bound = self.config.noise_bound
            latent = torch.randn(len(obs), self.width, generator=self.generators["initial"]).clamp(-bound, bound)
        else:
            latent, _ = self.actor.sample(features, self.generators["actor"])
        return latent, self.steered.decode(features, latent)

    def update(self) -> Metrics:
        """One gradient step of critics, actor and temperature, one step of the target."""
        batch = self.replay.sample(self.config.batch, self.generators["replay"])
        temperature = self.temperature.log.detach().exp()
        metrics = self._improve_critics(batch, temperature)
        latent, log_prob = self.actor.sample(batch.obs, self.generators["update"])
        actor_loss = (temperature * log_prob - self.critics.value(batch.obs, latent)).mean()
        self.optimisers["actor"].minimise(actor_loss)
        entropy_gap = (log_prob + (self.config.target_entropy or 0.0)).detach().mean()
        self.optimisers["temperature"].minimise(-self.temperature.log * entropy_gap)
        rest = {"actor_loss": actor_loss, "temperature": temperature, "entropy": -log_prob.mean()}
        return metrics | {name: float(value.detach()) for name, value in rest.items()}

    def _improve_critics(self, batch: Batch, temperature: Tensor) -> Metrics:
        return self._towards_target("critics", "target", batch, temperature)

    def _towards_target(self, leader: str, target: str, batch: Batch, temperature: Tensor) -> Metrics:
        """One step of the critics called ``leader`` towards y, and of their ``target`` after them."""
        critics = self.modules[leader]
        estimate = critics(batch.obs, batch.choice)
        loss = (estimate - self.critic_target(batch, temperature)).square().mean(1).sum()
        self.optimisers[leader].minimise(loss)
        follow(self.modules[target], critics, self.config.tau)
        return {"critic_loss": float(loss.detach()), "q": float(estimate.detach().mean())}

    @torch.no_grad()
    def critic_target(self, batch: Batch, temperature: Tensor) -> Float[Tensor, "B"]:
        """y of the formula above."""
        latent, log_prob = self.actor.sample(batch.following, self.generators["update"])
        return batch.reward + batch.bootstrap * (self._value_after(batch, latent) - temperature * log_prob)

    def _value_after(self, batch: Batch, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return self.target.value(batch.following, latent)

    def policy(self) -> Policy:
        """The steered policy as it stands."""
        return self.steered


class DsrlNoiseAliased(Dsrl):
    """Critics of actions beside those of the noise."""

    def __init__(self, model: GenerativePolicy, config: FinetuneConfig, seed: int) -> None:
        super().__init__(model, config, seed, model.shape.chunk_dim)
        self.of_actions = Critics.of(model.observer, model.shape.chunk_dim, config.hidden, config.layers)
        self.target_of_actions = target_of(self.of_actions)
        self.modules |= {"of_actions": self.of_actions, "target_of_actions": self.target_of_actions}
        self.optimisers["of_actions"] = AdamW(self.of_actions.twin.parameters(), config.learning_rate)

    def act(self, obs: Float[Tensor, "B O"], exploring: bool) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B H A"]]:
        """The normalised chunk that is played, as what was chosen, and the chunk."""
        _, chunk = super().act(obs, exploring)
        return self.model.normalise(chunk), chunk

    def _improve_critics(self, batch: Batch, temperature: Tensor) -> Metrics:
        metrics = self._towards_target("of_actions", "target_of_actions", batch, temperature)
        drawn = torch.randn(len(batch.obs), self.width, generator=self.generators["update"])
        with torch.no_grad():
            wanted = self.of_actions(batch.obs, self._normal_chunk(batch.obs, drawn))
        distance = 0.5 * (self.critics(batch.obs, drawn) - wanted).square().mean(1).sum()
        self.optimisers["critics"].minimise(distance)
        return metrics | {"distillation_loss": float(distance.detach())}

    def _value_after(self, batch: Batch, latent: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        return self.target_of_actions.value(batch.following, self._normal_chunk(batch.following, latent))

    def _normal_chunk(self, features: Float[Tensor, "B F"], latent: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        return self.model.normalise(self.steered.decode(features, latent))
