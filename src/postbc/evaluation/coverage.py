"""Coverage before any finetuning: what reinforcement learning has to work with.

From each of S held-out starts a policy is played N times with latent noise of its own, and once with w = 0. A start that
has been solved after M ≤ N tries is not played on: the rest could not change what is asked. With k_s successes among the
first M tries from start s:

    best of n  = mean_s [1 − C(M − k_s, n) / C(M, n)]      the chance that n tries include a success, without bias, n ≤ M;
                 mean_s [success in tries 1 … n]           likewise for M < n ≤ N; at n = N the share of starts that were
                                                           ever solved: of the others no finetuner that only steers
                                                           this policy can learn
    energy     = E‖y − a‖ − ½ E‖y − y'‖                     of sampled chunks y, y' at held-out demonstrated (s, a), their
    spread     = E‖y − y'‖ / √2                             both in half ranges of the action

Policies meet the same starts and the same latent noise, so differences are paired.
"""

from dataclasses import dataclass, field
from math import comb
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from postbc.demos.frames import Frames
from postbc.evaluation.rollouts import evaluate
from postbc.evaluation.statistics import paired_difference, wilson
from postbc.policies.policy import Latent, Policy
from postbc.scoring import energy_score
from postbc.sims.vector import ChunkVector


@dataclass(frozen=True)
class Covered:
    """Outcomes of one policy: ``success`` (S, N) of sampled tries, ``zero`` (S,) at w = 0; ``actions`` of held-out frames.

    ``rewards`` and ``zero_rewards`` are the largest that each of a start's first M tries, and the one at w = 0, met.
    """

    success: Bool[ndarray, "S N"]  # False where a start was not played on
    zero: Bool[ndarray, "S"]
    rewards: Float[ndarray, "S M"]
    zero_rewards: Float[ndarray, "S"]
    actions: dict[str, float] = field(default_factory=dict)  # energy, spread

    @property
    def least(self) -> int:
        """M, tries that every start had."""
        return int(self.rewards.shape[1])

    @property
    def best(self) -> float:
        """Mean largest reward of one try."""
        return float(self.rewards.mean())

    @property
    def rate(self) -> float:
        """Success of one try."""
        return float(self.success[:, : self.least].mean())

    @property
    def first_solved(self) -> Int[ndarray, "S"]:
        """The try, counted from 1, that first solved each start; 0 for none."""
        return np.where(self.solved, self.success.argmax(1) + 1, 0)

    @property
    def solved(self) -> Bool[ndarray, "S"]:
        """Whether any try from each start succeeded."""
        return np.asarray(self.success.any(axis=1))


def best_of(success: Bool[ndarray, "S N"], least: int) -> list[float]:
    """The chance of a success among n tries, for n = 1 … N, where every start had the first ``least`` of the N."""
    missed = least - success[:, :least].sum(1)
    counted = [1 - sum(comb(int(m), n) for m in missed) / (len(success) * comb(least, n)) for n in range(1, least + 1)]
    return counted + [float(success[:, :n].any(1).mean()) for n in range(least + 1, success.shape[1] + 1)]


def cover(
    policy: Policy, vector: ChunkVector, starts: list[int], samples: int, label: str, least: int | None = None
) -> Covered:
    """Play ``policy`` from every start up to ``samples`` times, and once with zero latent noise.

    A start is played on after ``least`` tries (default: all) only while it has not been solved.
    """
    zero, least = Policy(policy.model, Latent.ZERO, scale=policy.scale), min(least or samples, samples)
    success, rewards = np.zeros((len(starts), samples), bool), np.zeros((len(starts), least))
    for n in range(samples):
        left = np.arange(len(starts)) if n < least else np.flatnonzero(~success.any(1))
        if not len(left):
            break
        played = evaluate(policy, vector, [starts[i] for i in left], f"{label} {n + 1}/{samples}", n)
        success[left, n] = [outcome.success for outcome in played]
        if n < least:
            rewards[:, n] = [outcome.best for outcome in played]
    at_zero = evaluate(zero, vector, starts, f"{label} w = 0")
    solved, reached = (np.array(column) for column in zip(*((o.success, o.best) for o in at_zero), strict=True))
    return Covered(success, solved, rewards, reached)


@torch.no_grad()
def against_demonstrations(policy: Policy, frames: Frames, samples: int = 16, count: int = 512) -> dict[str, float]:
    """Energy distance and spread of sampled chunks at up to ``count`` frames of demonstrations held out from training."""
    index = torch.linspace(0, len(frames) - 1, min(count, len(frames))).long()
    noise = torch.randn(samples, len(index), policy.latent_dim, generator=torch.Generator().manual_seed(0))
    features = policy.model.observer(frames.rows(index))
    shown = policy.model.normalise(frames.chunks(index, policy.chunk))
    drawn = torch.stack([policy.model.normalise(policy.decode(features, w)) for w in noise])
    energy, apart = energy_score(drawn, shown)
    return {"energy": float(energy), "spread": float(apart) / 2**0.5}


def summary(covered: Covered) -> dict[str, Any]:
    """JSON of one policy; ``value`` with ``low`` and ``high`` is the share of starts solved at least once."""
    solved, tries = covered.solved, covered.success.shape[1]
    low, high = wilson(int(solved.sum()), len(solved))
    return {
        "value": float(solved.mean()),
        "low": low,
        "high": high,
        "success": covered.rate,
        "zero": float(covered.zero.mean()),
        "starts": len(solved),
        "tries": tries,
        "mean_max_reward": covered.best,
        "best_reward": float(covered.rewards.max(1).mean()),  # among M tries
        "zero_reward": float(covered.zero_rewards.mean()),
        "best_of": best_of(covered.success, covered.least),
        **covered.actions,
    }


def compare(by_method: dict[str, Covered]) -> dict[str, Any]:
    """JSON of all methods, and PostBC minus BC in the share of starts solved at least once, paired."""
    tries = next(iter(by_method.values())).success.shape[1]
    methods = {method: summary(covered) for method, covered in by_method.items()}
    table: dict[str, Any] = {"measure": f"Starts solved at least once in {tries} tries", "methods": methods}
    if {"bc", "postbc"} <= by_method.keys():
        values = paired_difference(by_method["bc"].solved, by_method["postbc"].solved)
        table["difference"] = dict(zip(("value", "low", "high"), values, strict=True))
    return table
