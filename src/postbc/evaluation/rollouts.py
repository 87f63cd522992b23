"""Play a policy from a fixed list of starts.

Every episode has a random stream of its own that depends on its start alone: two policies meet the same starts with the
same latent noise, however many environments run side by side.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from postbc.evaluation.statistics import paired_difference, wilson
from postbc.progress import Track
from postbc.sims.vector import NO_SEED, ChunkVector


class Acts(Protocol):
    """What is played: chunks (B, H, A) from raw observations (B, O) and ``normal_dim`` standard normal numbers each."""

    normal_dim: int

    def act(self, obs: torch.Tensor, normal: torch.Tensor | None = None) -> torch.Tensor:
        """The chunks to execute."""


@dataclass(frozen=True)
class Outcome:
    """How one episode went."""

    seed: int
    success: bool
    best: float  # largest reward met
    steps: int


class LatentStreams:
    """Standard normal numbers for each environment, from the stream of the episode it plays; ``attempt`` is another one."""

    def __init__(self, size: int, attempt: int = 0) -> None:
        self.size, self.attempt = size, attempt
        self._streams: dict[int, torch.Generator] = {}

    def draw(self, seeds: np.ndarray) -> torch.Tensor:
        """(n, size) numbers, the next of each episode's stream."""
        return torch.stack([torch.randn(self.size, generator=self._stream(int(seed))) for seed in seeds])

    def _stream(self, seed: int) -> torch.Generator:
        if seed not in self._streams:
            self._streams[seed] = torch.Generator().manual_seed(self._mixed(max(seed, 0)))
        return self._streams[seed]

    def _mixed(self, seed: int) -> int:
        """The start's own seed for the first attempt, else one hashed from both: torch's generator reads 32 bits."""
        return seed if self.attempt == 0 else int(np.random.SeedSequence([seed, self.attempt]).generate_state(1)[0])


def evaluate(policy: Acts, vector: ChunkVector, seeds: list[int], label: str, attempt: int = 0) -> list[Outcome]:
    """Play every start in ``seeds`` once; outcomes in the order of ``seeds``. Ends what ``vector`` was playing.

    Another ``attempt`` plays the same starts with other latent noise.
    """
    obs = vector.reset(seeds)
    streams = LatentStreams(policy.normal_dim, attempt)
    length = np.zeros(vector.n, int)
    outcomes: dict[int, Outcome] = {}
    with Track(label, len(seeds)) as bar:
        while len(outcomes) < len(seeds):
            chunk = policy.act(torch.from_numpy(obs), streams.draw(vector.playing))
            step = vector.step(chunk.numpy())
            length += step.steps
            over = (step.terminated | step.truncated) & (step.seed != NO_SEED)
            for i in np.flatnonzero(over):
                seed = int(step.seed[i])
                outcomes[seed] = Outcome(seed, bool(step.success[i]), float(step.best[i]), int(length[i]))
                length[i] = 0
            obs = step.obs
            bar.advance(int(over.sum()), f"success {sum(o.success for o in outcomes.values())}")
    return [outcomes[seed] for seed in seeds]


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Success with its Wilson interval, mean largest reward, mean length."""
    successes = sum(o.success for o in outcomes)
    low, high = wilson(successes, len(outcomes))
    return {
        "success": successes / len(outcomes),
        "low": low,
        "high": high,
        "episodes": len(outcomes),
        "mean_max_reward": float(np.mean([o.best for o in outcomes])),
        "mean_steps": float(np.mean([o.steps for o in outcomes])),
    }


def difference(a: list[Outcome], b: list[Outcome]) -> dict[str, float]:
    """Paired difference of success, b minus a, with its interval."""
    values = paired_difference(np.array([o.success for o in a]), np.array([o.success for o in b]))
    return dict(zip(("success", "low", "high"), values, strict=True))
