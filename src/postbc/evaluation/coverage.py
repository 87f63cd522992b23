"""Coverage before any finetuning: what reinforcement learning has to work with.

From each of S held-out starts a policy is played N times with latent noise of its own, and once with w = 0. With k_s
successes among the N from start s:

    best of n  = mean_s [1 − C(N − k_s, n) / C(N, n)]      the chance that n tries include a success, without bias, n ≤ N;
                                                           at n = N the share of starts that were ever solved: of the
                                                           others no finetuner that only steers this policy can learn
    energy     = E‖y − a‖ − ½ E‖y − y'‖                     of sampled chunks y, y' at held-out demonstrated (s, a), their
    spread     = E‖y − y'‖ / √2                             both in half ranges of the action

Policies meet the same starts and the same latent noise, so differences are paired.
"""

from dataclasses import dataclass, field
from math import comb
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray

from postbc.demos.frames import Frames
from postbc.evaluation.rollouts import evaluate
from postbc.evaluation.statistics import paired_difference, wilson
from postbc.policies.policy import Latent, Policy
from postbc.scoring import energy_score
from postbc.sims.vector import ChunkVector


@dataclass(frozen=True)
class Covered:
    """Outcomes of one policy: ``success`` (S, N) of sampled tries, ``zero`` (S,) at w = 0; ``actions`` of held-out frames."""

    success: Bool[ndarray, "S N"]
    zero: Bool[ndarray, "S"]
    best: float  # mean over starts of the largest reward of a sampled try
    actions: dict[str, float] = field(default_factory=dict)  # energy, spread

    @property
    def solved(self) -> Bool[ndarray, "S"]:
        """Whether any try from each start succeeded."""
        return np.asarray(self.success.any(axis=1))


def best_of(success: Bool[ndarray, "S N"]) -> list[float]:
    """The chance of a success among n of the N tries, for n = 1 … N."""
    count, tries = success.shape
    missed = tries - success.sum(1)
    return [1 - sum(comb(int(m), n) for m in missed) / (count * comb(tries, n)) for n in range(1, tries + 1)]


def cover(policy: Policy, vector: ChunkVector, starts: list[int], samples: int, label: str) -> Covered:
    """Play ``policy`` from every start ``samples`` times, and once with zero latent noise."""
    zero = Policy(policy.model, Latent.ZERO, scale=policy.scale)
    tries = [evaluate(policy, vector, starts, f"{label} {n + 1}/{samples}", n) for n in range(samples)]
    return Covered(
        success=np.array([[outcome.success for outcome in row] for row in tries]).T,
        zero=np.array([outcome.success for outcome in evaluate(zero, vector, starts, f"{label} w = 0")]),
        best=float(np.mean([outcome.best for row in tries for outcome in row])),
    )


@torch.no_grad()
def against_demonstrations(policy: Policy, frames: Frames, samples: int = 16, count: int = 512) -> dict[str, float]:
    """Energy distance and spread of sampled chunks at up to ``count`` frames of demonstrations held out from training."""
    index = torch.linspace(0, len(frames) - 1, min(count, len(frames))).long()
    noise = torch.randn(samples, len(index), policy.latent_dim, generator=torch.Generator().manual_seed(0))
    shown = policy.model.normalise(frames.chunks(index, policy.chunk))
    drawn = torch.stack([policy.model.normalise(policy.decode(frames.obs[index], w)) for w in noise])
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
        "success": float(covered.success.mean()),
        "zero": float(covered.zero.mean()),
        "starts": len(solved),
        "tries": tries,
        "mean_max_reward": covered.best,
        "best_of": best_of(covered.success),
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
