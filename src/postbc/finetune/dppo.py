"""DPPO (Ren et al. 2024, arXiv 2409.00588): PPO through the last denoising steps of a diffusion or flow policy.

Each of the last K' steps of the chain is an action of its own: x_{j+1} ~ N(m_θ(x_j, j, s), σ_j²), σ_j no smaller than a floor
for exploring. The environment's advantage Â of the executed chunk is shared by them, discounted towards the noisy ones:

    log p_j   = mean_d log N(x_{j+1} | m_θ(x_j, j, s), σ_j²),  clamped to [−5, 2];        ρ_j = exp(log p_j − log p_j^old)
    L_π       = −E min(ρ_j A_j, clip(ρ_j, 1 ± ε_j) A_j),    A_j = γ_d^{K'−1−j} Â (normalised over the rollout)
    ε_j       = ε_0 + (ε − ε_0) (e^{c t} − 1) / (e^c − 1),  t = j / (K' − 1)              (small for the noisy steps)
    δ         = Σ_{i<n} γ^i r_i + γ^n (1 − terminated) V(s') − V(s),    Â = Σ_k (∏ γ^n λ) δ_k up to the episode's end
    L_V       = E (V(s) − Â^old − V^old(s))²

n ≤ H are the executed steps of a chunk. Rewards are divided by the running standard deviation of their discounted sum. A flow
has no noise of its own, so the floor is all that explores (as ReinFlow injects it, with a constant where that learns one).
Evaluated and deployed, the chain is deterministic but for its start w ~ N(0, I).

Departures from the released code: running out of time bootstraps and ends only the sum of δ; γ is per control step.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from postbc.adam import AdamW
from postbc.config import DppoConfig, FinetuneConfig
from postbc.errors import ConfigError
from postbc.finetune.learner import Learner
from postbc.finetune.replay import to_batch
from postbc.policies.chain import ChainPolicy
from postbc.policies.generative import GenerativePolicy
from postbc.policies.networks import ResidualMlp
from postbc.policies.policy import Latent, Policy
from postbc.sims.vector import Transition
from postbc.storage.checkpoint import Nested
from postbc.training import Generators, Metrics

LOG_LIMITS = (-5.0, 2.0)  # of a step's log-probability


@dataclass(frozen=True)
class Rollout:
    """T chunks in each of n environments."""

    obs: Float[Tensor, "T n F"]
    chain: Float[Tensor, "T n K D"]  # K' + 1 states of the chain, from before its first tuned step to the chunk
    reward: Float[Tensor, "T n"]
    bootstrap: Float[Tensor, "T n"]
    following: Float[Tensor, "T n F"]
    over: Bool[Tensor, "T n"]  # the episode ended, by itself or by its time limit


def advantages(
    rollout: Rollout, value: Float[Tensor, "T n"], following: Float[Tensor, "T n"], gae: float
) -> Float[Tensor, "T n"]:
    """Â of every chunk."""
    delta = rollout.reward + rollout.bootstrap * following - value
    going_on = rollout.bootstrap * gae * (~rollout.over).float()
    total, running = torch.zeros_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        running = delta[t] + going_on[t] * running
        total[t] = running
    return total


def clip_schedule(config: DppoConfig) -> Float[Tensor, "K"]:
    """ε_j of the K' tuned steps, the noisy ones first."""
    t = torch.linspace(0, 1, config.steps) if config.steps > 1 else torch.ones(1)
    growth = torch.expm1(config.clip_rate * t) / math.expm1(config.clip_rate)
    return config.clip_base + (config.clip - config.clip_base) * growth


def step_weights(config: DppoConfig) -> Float[Tensor, "K"]:
    """γ_d^{K'−1−j} of the K' tuned steps: 1 for the last."""
    return config.denoising_discount ** torch.arange(config.steps - 1, -1, -1.0)


def surrogate(
    ratio: Float[Tensor, "B K"], advantage: Float[Tensor, "B K"], clips: Float[Tensor, "K"]
) -> Float[Tensor, ""]:
    """L_π: what a ratio gains beyond its clip does not count, what it loses does."""
    clipped = torch.minimum(ratio, 1 + clips).maximum(1 - clips)
    return -torch.minimum(ratio * advantage, clipped * advantage).mean()


class RewardScale(nn.Module):
    """Running variance (Welford) of the discounted sum of rewards in each environment; goes with the value learned in it."""

    count: Tensor
    mean: Tensor
    square: Tensor

    def __init__(self, envs: int) -> None:
        super().__init__()
        self.sums = torch.zeros(envs)  # of the episodes that are being played: no other run goes on with them
        for name in ("count", "mean", "square"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))

    def update(self, reward: Float[Tensor, "n"], discount: Float[Tensor, "n"], over: Bool[Tensor, "n"]) -> None:
        """Take in one chunk's rewards."""
        self.sums = self.sums * discount + reward
        for value in self.sums.tolist():
            self.count += 1
            away = value - self.mean
            self.mean += away / self.count
            self.square += away * (value - self.mean)
        self.sums = self.sums * (~over).float()

    @property
    def std(self) -> float:
        """1 before anything varied."""
        return math.sqrt(self.square / self.count) if self.count > 1 and self.square > 0 else 1.0


class Dppo(Learner):
    """The tuned network of a chain policy, and the value of states."""

    explores_first = False
    overlaps = False  # a rollout is of one policy
    critics = None  # the value of states serves training only

    def __init__(self, model: GenerativePolicy, config: FinetuneConfig, seed: int) -> None:
        if not isinstance(model, ChainPolicy) or config.dppo.steps > model.shape.inference_steps:
            raise ConfigError(
                f"dppo finetunes the last {config.dppo.steps} of the steps in which a diffusion or flow policy samples; "
                f"this is a {model.shape.kind} policy with {model.shape.inference_steps}."
            )
        self.config, self.settings = config, config.dppo
        self.generators = Generators(seed, ("weights", "act", "update"))
        torch.manual_seed(self.generators.seed("weights"))
        self.tunable = model.requires_grad_(False).with_tuned(self.settings.steps).requires_grad_(False)
        self.model = self.tunable
        assert self.tunable.tuned is not None  # noqa: S101 - with_tuned has just made it
        self.tuned = self.tunable.tuned.requires_grad_(True)
        self.value = ResidualMlp(model.observer.features, 1, config.hidden, config.layers)
        self.scale, self.clips = RewardScale(config.envs), clip_schedule(self.settings)
        self.modules = {"tuned": self.tuned, "value": self.value, "scale": self.scale}
        self.optimisers = {
            "tuned": AdamW(self.tuned.parameters(), config.learning_rate),
            "value": AdamW(self.value.parameters(), self.settings.critic_learning_rate),
        }
        self.played: dict[str, list[Tensor]] = {field.name: [] for field in fields(Rollout)}
        self.updates = 0

    def continue_from(self, policy: Policy, weights: Nested) -> None:
        """Raises ConfigError for another number of tuned steps as well."""
        if policy.model.shape.tuned_steps != self.settings.steps:
            raise ConfigError(
                f"finetune_robot.finetune.dppo.steps = {self.settings.steps}, the finetuned policy has "
                f"{policy.model.shape.tuned_steps}: other steps would read the tuned network."
            )
        super().continue_from(policy, {"scale": self.scale.state_dict(), **weights})  # older folders hold none

    def _std(self, number: int, floor: float) -> float:
        return max(self.tunable.std(number), floor)

    @property
    def _first(self) -> int:
        """Number of the first tuned step."""
        return self.model.shape.inference_steps - self.settings.steps

    @torch.no_grad()
    def act(self, obs: Float[Tensor, "B O"], exploring: bool) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B H A"]]:
        """A chunk from the noisy chain; what was chosen is the chain's tuned part."""
        condition = self.model.condition(self.model.observer(obs), None)
        x = torch.randn(len(obs), self.model.latent_dim, generator=self.generators["act"])
        for number in range(self._first):
            x = self.tunable.step(x, number, condition)
        chain = [x]
        for number in range(self._first, self.model.shape.inference_steps):
            noise = torch.randn(x.shape, generator=self.generators["act"]).clamp(-3, 3)
            x = self.tunable.step(x, number, condition, noisy=True) + self._std(number, self.settings.min_std) * noise
            chain.append(x)
        return torch.stack(chain, 1).flatten(1), self.model.raw(x.clamp(-1, 1))

    @torch.no_grad()
    def store(self, obs: Float[Tensor, "B O"], choice: Float[Tensor, "B C"], step: Transition) -> None:
        """Append to the rollout."""
        batch = to_batch(obs, choice, step, self.config.discount, self.cost)
        over = torch.from_numpy(step.terminated | step.truncated)
        discounts = self.config.discount ** torch.from_numpy(step.steps).float()
        self.scale.update(batch.reward, discounts, over)
        chain = choice.unflatten(1, (self.settings.steps + 1, -1))
        seen, following = self.model.observer(batch.obs), self.model.observer(batch.following)
        row = {
            "obs": seen,
            "chain": chain,
            "reward": batch.reward,
            "bootstrap": batch.bootstrap,
            "following": following,
        }
        for name, value in {**row, "over": over}.items():
            self.played[name].append(value)

    def cut(self) -> None:
        """What was played last is not gone on with."""
        if self.played["over"]:
            self.played["over"][-1] = torch.ones_like(self.played["over"][-1])
        self.scale.sums.zero_()

    def learn(self, chunks: float) -> Metrics | None:
        """Improve the policy once the rollout is full; then it begins anew."""
        if len(self.played["obs"]) < self.settings.rollout:
            return None
        rollout = Rollout(**{name: torch.stack(rows) for name, rows in self.played.items()})
        self.played = {name: [] for name in self.played}
        return self._improve(rollout)

    def log_probs(
        self, features: Float[Tensor, "B F"], chain: Float[Tensor, "B K D"], numbers: tuple[int, ...]
    ) -> Float[Tensor, "B J"]:
        """log p_j of the steps ``numbers`` of the chain, counted among the tuned ones."""
        condition = self.model.condition(features, None)
        found = []
        for j in numbers:
            std = self._std(self._first + j, self.settings.min_log_std)
            mean = self.tunable.step(chain[:, j], self._first + j, condition, noisy=True)
            exact = -0.5 * ((chain[:, j + 1] - mean) / std).square() - math.log(std) - 0.5 * math.log(2 * math.pi)
            found.append(exact.clamp(*LOG_LIMITS).mean(1))
        return torch.stack(found, 1)

    def _improve(self, rollout: Rollout) -> Metrics:
        settings, steps = self.settings, tuple(range(self.settings.steps))
        obs, chain = rollout.obs.flatten(0, 1), rollout.chain.flatten(0, 1)
        with torch.no_grad():
            value, following = (self.value(part).squeeze(-1) for part in (rollout.obs, rollout.following))
            scaled = Rollout(**{**vars(rollout), "reward": rollout.reward / self.scale.std})
            advantage = advantages(scaled, value, following, settings.gae).flatten()
            target = advantage + value.flatten()
            old = torch.cat(
                [self.log_probs(o, c, steps) for o, c in zip(obs.split(4096), chain.split(4096), strict=True)]
            )
        normal = (advantage - advantage.mean()) / (advantage.std(unbiased=False) + 1e-8)
        weights, warm, metrics = step_weights(settings), self.updates < settings.critic_warmup, Metrics()
        for _ in range(settings.epochs):
            order = torch.randperm(len(obs), generator=self.generators["update"])
            for index in order.split(self.config.batch):
                value_loss = (self.value(obs[index]).squeeze(1) - target[index]).square().mean()
                self.optimisers["value"].minimise(value_loss)
                metrics["value_loss"] = float(value_loss.detach())
                if warm:
                    continue
                log = self.log_probs(obs[index], chain[index], steps)
                ratio = (log - old[index]).exp()
                loss = surrogate(ratio, normal[index, None] * weights, self.clips)
                self.optimisers["tuned"].minimise(loss)
                outside = ((ratio - 1).abs() > self.clips).float().mean()
                drift = (ratio.detach() - 1 - (log.detach() - old[index])).mean()  # an estimate of KL(old ‖ new)
                metrics |= {"policy_loss": float(loss.detach()), "clipped": float(outside), "kl": float(drift)}
            if metrics.get("kl", 0.0) > settings.target_kl:
                break
        self.updates += 1
        left = (target - value.flatten()).var(unbiased=False)
        explained = 1 - left / target.var(unbiased=False).clamp_min(1e-8)
        return metrics | {"explained_variance": float(explained), "reward_std": self.scale.std}

    def policy(self) -> Policy:
        """The tuned policy, sampled without noise but for its start."""
        return Policy(self.model, Latent.SAMPLE).eval()

    def state(self) -> Nested:
        """Everything needed to go on exactly from here, the rollout so far with it."""
        played = {name: torch.stack(rows) for name, rows in self.played.items() if rows}
        return {**super().state(), "played": played, "sums": self.scale.sums, "updates": self.updates}

    def restore(self, state: Nested) -> None:
        """Put back what :meth:`state` returned."""
        super().restore(state)
        stored = state.get("played", {})
        self.played = {name: list(stored[name].unbind(0)) if name in stored else [] for name in self.played}
        self.scale.sums = state["sums"]
        self.updates = int(state["updates"])
