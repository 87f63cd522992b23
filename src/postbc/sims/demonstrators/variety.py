"""How differently people act in the same situation: spread and number of modes of actions at exactly equal states.

Each state is shown to several operators who have just sat down, and to none of them anything else: what each asks for
once the hand has followed the wish is its answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde

from postbc.sims.task import Array, OperatorFactory, Task

ASKED: Final = 12  # people a state
LOOKS: Final = 5  # control steps for which they see it; the slowest hand keeps half of its last command
POINTS: Final = 64  # of the density in which modes are counted
RISE: Final = 0.25  # a mode stands out of the density by this share of its largest value


@dataclass(frozen=True)
class Variety:
    """``spread``: standard deviation of the answers, in half action ranges; ``modes``: their mean number."""

    spread: float
    modes: float


def _modes(actions: Array) -> int:
    """Peaks of the density of ``actions`` (n, A) along the direction in which they differ most."""
    centred = actions - actions.mean(0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    if along.std() < 1e-3:
        return 1
    grid = np.linspace(along.min() - along.std(), along.max() + along.std(), POINTS)
    density = gaussian_kde(along, 0.35)(grid)
    return max(1, len(find_peaks(density, prominence=RISE * density.max())[0]))


def _answer(factory: OperatorFactory, record: Mapping[str, Array], seed: Sequence[int], scale: float) -> Array:
    operator = factory(np.random.default_rng(seed), scale)
    return [operator.act(record) for _ in range(LOOKS)][-1]


def variety(
    task: Task, names: Sequence[str], records: Sequence[Mapping[str, Array]], scale: float = 1.0, seed: int = 0
) -> Variety:
    """Of the operators called ``names``, taken in turn, at the recorded observations ``records``.

    The same ``seed`` gives the same people, whoever they are: a pool and one person alone are compared with equal chance.
    """
    pool = task.operators()
    half = (np.array(task.action_high) - np.array(task.action_low)) / 2
    spreads, modes = [], []
    for number, record in enumerate(records):
        people = [(pool[names[k % len(names)]], (seed, number, k)) for k in range(ASKED)]
        answers = np.stack([_answer(factory, record, stream, scale) for factory, stream in people]) / half
        spreads.append(answers.std(0).mean())
        modes.append(_modes(answers))
    return Variety(float(np.mean(spreads)), float(np.mean(modes)))
