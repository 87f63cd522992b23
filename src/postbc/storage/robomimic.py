"""robomimic's HDF5 layout, written: ``data/demo_k`` holds arrays; attributes describe each demonstration and all of them.

The same demonstrations give the same bytes: no times are stored and the file format's version is fixed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from postbc.storage.atomic import atomic_file

FORMAT: Final = ("v110", "v110")  # oldest and newest HDF5 release that may have to read the file
COMPRESSION: Final = {"compression": "gzip", "compression_opts": 9, "shuffle": True}


@dataclass(frozen=True)
class Demo:
    """One demonstration: ``arrays`` (T, …) by their path below ``demo_k``, ``facts`` as attributes."""

    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]


def write_robomimic(path: Path, demos: Iterable[Demo], described: Mapping[str, str]) -> int:
    """Replace ``path`` by a file of ``demos``, whole or not at all; returns how many.

    ``described`` are attributes of ``data``, such as ``env_args``, robomimic's description of the environment as JSON.
    """
    count = total = 0
    with atomic_file(path) as building, h5py.File(building, "w", libver=FORMAT) as file:
        data = file.create_group("data")
        data.attrs["total"] = total
        data.attrs.update(described)
        for count, demo in enumerate(demos, 1):
            group, length = data.create_group(f"demo_{count - 1}"), len(demo.arrays["actions"])
            group.attrs.update({"num_samples": length, **demo.facts})
            for key, values in demo.arrays.items():
                group.create_dataset(key, data=values, chunks=values.shape, track_times=False, **COMPRESSION)
            total += length
        data.attrs.modify("total", total)
    return count
