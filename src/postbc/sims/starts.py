"""Which initial states serve which purpose: a seed belongs to one only, so nothing is tested on what it saw.

An environment's initial state is a function of its seed. The seeds below ``2**31`` are cut into one range a
purpose. Within a range a run starts at a place of its own; the first ``n`` seeds of a run are a prefix of its
first ``n + 1``.
"""

from typing import Final

from postbc.errors import ConfigError

VERSION: Final = 1  # of the lists below; stands beside every evaluation, because numbers of other lists do not compare
WIDTH: Final = 2**28  # seeds in a range
STRIDE: Final = 2**16  # seeds a run may use before it meets the next run's
RANGES: Final = ("demonstrations", "training", "evaluation", "robot")
DEMONSTRATIONS, TRAINING, EVALUATION, ROBOT = RANGES
# Runs of the evaluation range beside 0, which final numbers come from: finetuning chooses its best policy by others, and
# LeRobot plays still others.
LOOK_RUN, LEROBOT_RUN = 4095, 4094


def nth_seed(split: str, run_seed: int, k: int) -> int:
    """Seed ``k`` of run ``run_seed`` in ``split``. Raises ConfigError for an unknown range or ``k``."""
    if split not in RANGES:
        raise ConfigError(f"no initial states are set apart for {split!r}; there is {', '.join(RANGES)}.")
    if not 0 <= k < WIDTH:
        raise ConfigError(f"initial state {k} asked for; {split} has {WIDTH}, counted from 0.")
    return RANGES.index(split) * WIDTH + (run_seed * STRIDE + k) % WIDTH


def seeds(split: str, run_seed: int, n: int) -> list[int]:
    """The first ``n`` seeds of run ``run_seed`` in the range ``split``: all different, always the same."""
    return [nth_seed(split, run_seed, k) for k in range(n)]
