"""The tabular case of posterior behavioural cloning, exactly (PostBC, arXiv 2512.16911, app. B).

    π̂_h(a|s)   = T_h(s,a) / T_h(s)                                  behavioural cloning
    π^u_h(a|s) = (1 − α) π̂_h(a|s) + α/A                             uniform noise
    π^p_h(a|s) = (T_h(s,a) + λ/A) / (T_h(s) + λ)                    mean of the posterior of π^β under Dirichlet(λ/A)
    π̃_h(a|s)   = (1 − α) π̂_h(a|s) + α π^p_h(a|s)                    PostBC;  all four are 1/A where T_h(s) = 0
               = (1 − ν) π̂_h(a|s) + ν/A,  ν = α λ / (T_h(s) + λ)    the same: uniform noise that fades with visits
    J(π)       = E_π Σ_h r_h(s_h, a_h)                              by backward induction
    coverage   = max{γ : π_h(a|s) ≥ γ π^β_h(a|s) for all h, s, a}   (def. 4.1)
    theorem:  λ = max{A, 4 log(HT)},   α = 1 / max{A, H, log(HT)}

H steps, S states, A actions; T_h(s,a) counts how often T demonstrations of π^β played a in s at step h. A policy is an
array (H, S, A) whose last axis sums to one. No departure from the paper, but its lemma 1 prints T_h(s) + A once where
T_h(s) + λ is meant. Bad values raise ConfigError, arrays that do not belong together DataError.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from postbc.errors import ConfigError, DataError

Policy = Float[np.ndarray, "H S A"]
Counts = Int[np.ndarray, "H S A"]


@dataclass(frozen=True)
class Mdp:
    """A finite-horizon MDP, P_h(s'|s,a), r_h(s,a) and P_0(s); DataError where shapes disagree or a row is no distribution."""

    transitions: Float[np.ndarray, "H S A S"]
    reward: Float[np.ndarray, "H S A"]
    start: Float[np.ndarray, " S"]

    def __post_init__(self) -> None:
        states = len(self.start)
        if self.transitions.shape != (*self.reward.shape, states) or self.reward.shape[1] != states:
            shapes = self.transitions.shape, self.reward.shape, self.start.shape
            raise DataError(f"An MDP needs transitions (H, S, A, S), reward (H, S, A) and start (S,), not {shapes}.")
        for each in (self.transitions, self.start):
            if not (each >= 0).all() or not np.allclose(each.sum(-1), 1):
                raise DataError("Transitions and start are probabilities: none negative, their last axis sums to 1.")


def random_mdp(
    states: int, actions: int, horizon: int, rng: np.random.Generator, concentration: float = 1.0
) -> tuple[Mdp, Policy]:
    """Draw an MDP and a demonstrator: Dirichlet(``concentration``) transitions, start and π^β, rewards in [0, 1].

    A small ``concentration`` (positive) gives rarely visited states and a demonstrator that is nearly deterministic.
    """
    if min(states, actions, horizon) < 1 or concentration <= 0:
        seen = f"S = {states}, A = {actions}, H = {horizon}, concentration = {concentration}"
        raise ConfigError(f"{seen}: sizes are at least 1 and the concentration is positive.")
    transitions = rng.dirichlet(np.full(states, concentration), size=(horizon, states, actions))
    start = rng.dirichlet(np.full(states, concentration))
    demonstrator = rng.dirichlet(np.full(actions, concentration), size=(horizon, states))
    return Mdp(transitions, rng.random((horizon, states, actions)), start), demonstrator


def soft_optimal(mdp: Mdp, temperature: float) -> Policy:
    """π_h(a|s) ∝ exp(Q_h(s,a) / ``temperature``), Q under the policy itself: a good demonstrator that is not perfect."""
    if temperature <= 0:
        raise ConfigError(f"temperature = {temperature}: it must be positive, and goes to 0 for the optimal policy.")
    policy = np.empty_like(mdp.reward)
    value = np.zeros(len(mdp.start))
    for h in reversed(range(len(policy))):
        q = mdp.reward[h] + mdp.transitions[h] @ value
        weight = np.exp((q - q.max(-1, keepdims=True)) / temperature)
        policy[h] = weight / weight.sum(-1, keepdims=True)
        value = (policy[h] * q).sum(-1)
    return policy


def bandit(epsilon: float, rewarded: int = 1) -> tuple[Mdp, Policy]:
    """Appendix B.1: three arms, one of ``rewarded`` ∈ {1, 2} pays, π^β = (1 − 4ε, 2ε, 2ε), ε ∈ (0, 1/8], J(π^β) = 2ε."""
    if not 0 < epsilon <= 1 / 8 or rewarded not in (1, 2):
        raise ConfigError(f"epsilon = {epsilon}, rewarded = {rewarded}: expected (0, 1/8], and arm 1 or 2.")
    reward = np.zeros((1, 1, 3))
    reward[0, 0, rewarded] = 1
    demonstrator = np.array([[[1 - 4 * epsilon, 2 * epsilon, 2 * epsilon]]])
    return Mdp(np.ones((1, 1, 3, 1)), reward, np.ones(1)), demonstrator


def _draw(probabilities: Float[np.ndarray, "T N"], rng: np.random.Generator) -> Int[np.ndarray, " T"]:
    """One index a row, by the inverse of the cumulative distribution."""
    cumulative = probabilities.cumsum(-1)
    # Scaled by the row's own sum: rounding cannot draw an index past the end or one of probability 0.
    point = rng.random((len(probabilities), 1)) * cumulative[:, -1:]
    return np.asarray((cumulative <= point).sum(-1))


def visit_counts(mdp: Mdp, policy: Policy, demonstrations: int, rng: np.random.Generator) -> Counts:
    """T_h(s,a) of ``demonstrations`` ≥ 0 independent episodes of ``policy``; every step's counts sum to that number."""
    if demonstrations < 0:
        raise ConfigError(f"demonstrations = {demonstrations}: a number of episodes is not negative.")
    _check_policy(mdp, policy)
    counts = np.zeros(policy.shape, np.int64)
    state = _draw(np.broadcast_to(mdp.start, (demonstrations, len(mdp.start))), rng)
    for h in range(len(policy)):
        action = _draw(policy[h, state], rng)
        np.add.at(counts[h], (state, action), 1)
        state = _draw(mdp.transitions[h, state, action], rng)
    return counts


def expected_return(mdp: Mdp, policy: Policy) -> float:
    """J(π), exactly: V_h(s) = Σ_a π_h(a|s) (r_h(s,a) + Σ_s' P_h(s'|s,a) V_{h+1}(s')),  V_{H+1} = 0."""
    _check_policy(mdp, policy)
    value = np.zeros(len(mdp.start))
    for h in reversed(range(len(policy))):
        value = (policy[h] * (mdp.reward[h] + mdp.transitions[h] @ value)).sum(-1)
    return float(mdp.start @ value)


def behavioural_cloning(counts: Counts) -> Policy:
    """π̂, the maximum of the likelihood; 1/A where a state was not visited."""
    visits = counts.sum(-1, keepdims=True)
    return np.asarray(np.where(visits > 0, counts / np.maximum(visits, 1), 1 / counts.shape[-1]))


def uniform_noise(policy: Policy, alpha: float) -> Policy:
    """(1 − α) π + α/A, α ∈ [0, 1] (app. B.2)."""
    _check_weight(alpha)
    return np.asarray((1 - alpha) * policy + alpha / policy.shape[-1])


def posterior_demonstrator(counts: Counts, lam: float) -> Policy:
    """π^p, the posterior mean of π^β under Dirichlet(λ/A), λ > 0; λ = A is the uniform prior (app. B.3)."""
    if lam <= 0:
        raise ConfigError(f"lambda = {lam}: the weight of the prior is positive.")
    return np.asarray((counts + lam / counts.shape[-1]) / (counts.sum(-1, keepdims=True) + lam))


def postbc_mixture(counts: Counts, lam: float, alpha: float) -> Policy:
    """π̃ = (1 − α) π̂ + α π^p, λ > 0, α ∈ [0, 1]; 1/A where a state was not visited, which both parts are (app. B.3)."""
    _check_weight(alpha)
    return np.asarray((1 - alpha) * behavioural_cloning(counts) + alpha * posterior_demonstrator(counts, lam))


def theorem_constants(actions: int, horizon: int, demonstrations: int) -> tuple[float, float]:
    """λ and α of the main theorem (app. B.3); all three sizes are at least 1."""
    if min(actions, horizon, demonstrations) < 1:
        seen = f"actions = {actions}, horizon = {horizon}, demonstrations = {demonstrations}"
        raise ConfigError(f"{seen}: all are at least 1.")
    log = math.log(horizon * demonstrations)
    return max(actions, 4 * log), 1 / max(actions, horizon, log)


def coverage(policy: Policy, demonstrator: Policy, above: float = 0.0) -> float:
    """γ (def. 4.1): the least π_h(a|s) / π^β_h(a|s) over all actions with π^β_h(a|s) > ``above``, which is in [0, 1/A).

    At ``above`` = 0 that is the definition, and γ ∈ [0, 1]: where π^β is 0, every γ will do. A larger ``above`` leaves out
    what the demonstrator hardly ever does, and there γ may exceed 1.
    """
    if policy.shape != demonstrator.shape:
        raise DataError(f"Policies (H, S, A) of {policy.shape} and {demonstrator.shape}: expected the same sizes.")
    if not 0 <= above < 1 / policy.shape[-1]:
        raise ConfigError(f"above = {above}: expected at least 0, less than 1/A, so that an action remains everywhere.")
    played = demonstrator > above
    return float((policy[played] / demonstrator[played]).min())


def _check_weight(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha = {alpha}: the weight of a mixture is between 0 and 1.")


def _check_policy(mdp: Mdp, policy: Policy) -> None:
    if policy.shape != mdp.reward.shape:
        raise DataError(f"A policy of {policy.shape} for an MDP of (H, S, A) = {mdp.reward.shape}: expected the same.")
