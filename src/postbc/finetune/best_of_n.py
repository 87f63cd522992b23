"""Best-of-N: the policy stays as it is, and of N chunks that it samples the one is played that critics value most.

The critics are those of implicit Q-learning (Kostrikov et al. 2021, arXiv 2110.06169), learned from rollouts of the policy
itself; a is the normalised chunk that was played over n ≤ H steps:

    L_V = E |κ − 1{u < 0}| u²,   u = min_i Q̄_i(s, a) − V(s)                    (expectile κ: V of what does better than usual)
    L_Q = Σ_i (Q_i(s, a) − Σ_{i<n} γ^i r_i − γ^n (1 − terminated) V(s'))²

V never asks for an action that was not played, so values are not extrapolated. Rewards are the task's, not shifted. Critics
learn while the rollouts are made rather than after them: what is played never depends on them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from postbc.adam import AdamW
from postbc.config import FinetuneConfig
from postbc.finetune.critics import Critics, target_of
from postbc.finetune.learner import OffPolicy, follow
from postbc.policies.generative import GenerativePolicy
from postbc.policies.networks import ResidualMlp
from postbc.policies.policy import Latent, Policy
from postbc.training import Metrics


def expectile_loss(u: Float[Tensor, "B"], expectile: float) -> Float[Tensor, ""]:
    """E |κ − 1{u < 0}| u²; at ½ half the mean square."""
    weight = torch.where(u < 0, 1 - expectile, expectile)
    return (weight * u.square()).mean()


class BestOfN(OffPolicy):
    """Twin critics of chunks and a value of states."""

    def __init__(self, model: GenerativePolicy, config: FinetuneConfig, seed: int) -> None:
        super().__init__(model, config, seed, model.shape.chunk_dim)
        form = config.hidden, config.layers
        self.critics: Critics = Critics.of(model.observer, model.shape.chunk_dim, *form)
        self.target = target_of(self.critics)
        self.value = ResidualMlp(model.observer.features, 1, *form)
        self.base = Policy(model, Latent.SAMPLE).eval()
        self.modules = {"critics": self.critics, "target": self.target, "value": self.value}
        self.optimisers = {
            "critics": AdamW(self.critics.twin.parameters(), config.learning_rate),
            "value": AdamW(self.value.parameters(), config.learning_rate),
        }

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "B O"], exploring: bool) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B H A"]]:
        """A chunk of the frozen policy, w ~ N(0, I), whether ``exploring`` or not; what was chosen is its normalised form."""
        normal = torch.randn(len(obs), self.base.normal_dim, generator=self.generators["actor"])
        chunk = self.base.act(obs, normal)
        return self.model.normalise(chunk), chunk

    def update(self) -> Metrics:
        """One gradient step of the value and of the critics, one step of the target."""
        batch = self.replay.sample(self.config.batch, self.generators["replay"])
        with torch.no_grad():
            played = self.target.value(batch.obs, batch.choice)
        u = played - self.value(batch.obs).squeeze(1)
        value_loss = expectile_loss(u, self.config.expectile)
        self.optimisers["value"].minimise(value_loss)
        with torch.no_grad():
            wanted = batch.reward + batch.bootstrap * self.value(batch.following).squeeze(1)
        estimate = self.critics(batch.obs, batch.choice)
        critic_loss = (estimate - wanted).square().mean(1).sum()
        self.optimisers["critics"].minimise(critic_loss)
        follow(self.target, self.critics, self.config.tau)
        found = {"critic_loss": critic_loss, "value_loss": value_loss, "q": estimate.mean(), "advantage": u.mean()}
        return {name: float(value.detach()) for name, value in found.items()}

    def policy(self) -> Policy:
        """The frozen policy that chooses among its samples."""
        scorer, samples = self.critics.twin, self.config.samples
        return Policy(self.model, Latent.BEST, scorer=scorer, samples=samples).eval()
