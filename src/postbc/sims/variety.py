"""How differently people act in the same situation: spread and number of modes of actions at matched states.

Matched states of a frame are its nearest neighbours, one of each other episode, in observations scaled to unit variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde

from postbc.sims.recording import Episode
from postbc.sims.task import Array, Task

NEIGHBOURS: Final = 12  # matched states a frame
FRAMES: Final = 300  # frames looked at
POINTS: Final = 64  # of the density in which modes are counted
RISE: Final = 0.25  # a mode stands out of the density by this share of its largest value


@dataclass(frozen=True)
class Variety:
    """``spread``: standard deviation of matched actions, in half action ranges; ``modes``: their mean number."""

    spread: float
    modes: float


def _modes(actions: Array) -> int:
    """Peaks of the density of ``actions`` (n, A) along the direction in which they differ most."""
    centred = actions - actions.mean(0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    along = centred @ direction
    if along.std() < 1e-3:
        return 1
    grid = np.linspace(along.min() - along.std(), along.max() + along.std(), POINTS)
    density = gaussian_kde(along, 0.35)(grid)
    return max(1, len(find_peaks(density, prominence=RISE * density.max())[0]))


def variety(task: Task, episodes: Sequence[Episode], seed: int = 0) -> Variety:
    """Of ``episodes``, at least three. The same frames are looked at for the same episodes and ``seed``."""
    states, actions, owner = [], [], []
    for number, episode in enumerate(episodes):
        recorded = {key: np.stack([frame[key] for frame in episode.obs]) for key in episode.obs[0]}
        states.append(np.concatenate(task.observe(recorded), axis=-1))
        actions.append(np.stack(episode.actions))
        owner.append(np.full(len(episode), number))
    state, action, whose = np.concatenate(states), np.concatenate(actions), np.concatenate(owner)
    state = (state - state.mean(0)) / (state.std(0) + 1e-6)
    half = (np.array(task.action_high) - np.array(task.action_low)) / 2
    looked_at = np.random.default_rng(seed).choice(len(state), min(FRAMES, len(state)), replace=False)
    spreads, modes = [], []
    for frame in looked_at:
        distance = ((state - state[frame]) ** 2).sum(1)
        nearest = [int(np.flatnonzero(whose == k)[distance[whose == k].argmin()]) for k in range(len(episodes))]
        nearest = sorted(nearest, key=lambda i: float(distance[i]))[:NEIGHBOURS]
        matched = action[nearest] / half
        spreads.append(matched.std(0).mean())
        modes.append(_modes(matched))
    return Variety(float(np.mean(spreads)), float(np.mean(modes)))
