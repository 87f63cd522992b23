"""From the store to robomimic HDF5, so that nobody is locked in: what the robomimic reader reads comes back equal."""

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np

from postbc.demos.episode import Episode
from postbc.demos.readers.robomimic import DESCRIBED
from postbc.errors import DataError
from postbc.storage.robomimic import Demo, write_robomimic


def export(episodes: Iterable[Episode], path: Path) -> int:
    """Write ``episodes`` to ``path``, whole or not at all; returns how many.

    What describes the environment of the first describes all; every other fact is an attribute of its demonstration.
    Raises DataError where there is none.
    """
    rest = iter(episodes)
    first = next(rest, None)
    if first is None:
        raise DataError("there is no episode to export.")
    described = {key: first.facts[key] for key in DESCRIBED if key in first.facts}
    return write_robomimic(path, (_demo(episode, described) for episode in chain([first], rest)), described)


def _demo(episode: Episode, described: Mapping[str, str]) -> Demo:
    """``dones`` is 1 in the last frame; ``success`` is stored too, which robomimic leaves to the reward."""
    dones = np.arange(len(episode)) == len(episode) - 1
    flat = {"actions": episode.action, "rewards": episode.reward, "dones": dones.astype(np.uint8)}
    obs = {f"obs/{key}": values for key, values in episode.obs.items()}
    facts = {k: v if isinstance(v, int | float) else str(v) for k, v in episode.facts.items() if described.get(k) != v}
    return Demo({**flat, "success": episode.success.astype(np.uint8), **obs}, facts)
