"""From the store to robomimic HDF5, so that nobody is locked in: what the robomimic reader reads comes back equal."""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from postbc.demos.episode import Episode
from postbc.demos.readers.robomimic import DESCRIBED
from postbc.storage.atomic import atomic_file


def export(episodes: Iterable[Episode], path: Path) -> int:
    """Write ``episodes`` to ``path``, whole or not at all; returns how many.

    ``demo_k`` holds ``actions``, ``rewards``, ``dones`` (1 in the last frame), ``obs`` and, which robomimic leaves to the
    reward, ``success``. An episode's facts are attributes of its group, descriptions of the environment those of ``data``.
    """
    count = total = 0
    with atomic_file(path) as building, h5py.File(building, "w", libver=("v110", "v110")) as file:
        data = file.create_group("data")
        for count, episode in enumerate(episodes, 1):
            demo = data.create_group(f"demo_{count - 1}")
            for key, value in episode.facts.items():
                (data if key in DESCRIBED else demo).attrs[key] = (
                    value if isinstance(value, int | float) else str(value)
                )
            demo.attrs["num_samples"] = len(episode)
            dones = np.arange(len(episode)) == len(episode) - 1
            arrays = {"actions": episode.action, "rewards": episode.reward, "success": episode.success, "dones": dones}
            for key, values in {**arrays, **{f"obs/{k}": v for k, v in episode.obs.items()}}.items():
                stored = values.astype(np.uint8) if values.dtype == bool else values
                demo.create_dataset(key, data=stored, chunks=stored.shape, track_times=False, compression="gzip")
            total += len(episode)
        data.attrs["total"] = total
    return count
