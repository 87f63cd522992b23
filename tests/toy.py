"""Toy demonstrations, in memory."""

from dataclasses import replace

import numpy as np

from postbc.demos.episode import Episode
from postbc.demos.frames import Frames, stack_frames


def toy_episode(number: int, length: int = 12) -> Episode:
    """A point that moves to a goal, observed with its goal; every episode has its own speed."""
    random = np.random.default_rng(number)
    goal = random.uniform(-1, 1, 2)
    position = np.linspace(0, 1, length)[:, None] * goal
    action = np.diff(position, axis=0, append=position[-1:]) + 0.01 * random.standard_normal((length, 2))
    success = np.arange(length) == length - 1
    obs = {"position": position.astype(np.float32), "goal": np.tile(goal, (length, 1)).astype(np.float32)}
    return Episode(action.astype(np.float32), obs, success.astype(np.float32), success, {"name": f"demo_{number}"})


def make_frames(episodes: list[Episode]) -> Frames:
    """Frames without a data set on disk."""
    parts = [(e.obs["position"], e.obs["goal"], e.action) for e in episodes]
    return replace(stack_frames(parts, 10), fingerprint="toy")
