"""Every policy at every step of its life, on starts that nobody trained on, the same for all."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from postbc.evaluation.rollouts import Outcome, difference, evaluate, summary
from postbc.policies.policy import Policy
from postbc.sims.vector import ChunkVector


@dataclass(frozen=True)
class Candidate:
    """A policy to be evaluated: which step of its life, which method, what it cost, whether it is played on the robot."""

    life: str
    method: str
    policy: Policy
    env_steps: int
    on_robot: bool = False


def evaluate_all(
    candidates: Iterable[Candidate], sim: ChunkVector, robot: ChunkVector | None, seeds: list[int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """``<life>.<method>`` → success with interval and cost, and ``difference.<life>``: postbc minus bc, paired."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    outcomes: dict[str, dict[str, list[Outcome]]] = {}
    for candidate in candidates:
        label = f"{candidate.life} {candidate.method}"
        vector = robot if candidate.on_robot else sim
        if vector is None:
            continue  # on hardware nothing is evaluated: it would cost robot time
        played = evaluate(candidate.policy, vector, seeds, label)
        outcomes.setdefault(candidate.life, {})[candidate.method] = played
        table.setdefault(candidate.life, {})[candidate.method] = {**summary(played), "env_steps": candidate.env_steps}
    pairs = {life: by for life, by in outcomes.items() if {"bc", "postbc"} <= by.keys()}
    return {**table, "difference": {life: difference(by["bc"], by["postbc"]) for life, by in pairs.items()}}
