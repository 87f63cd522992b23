"""robomimic and LIBERO HDF5 (low-dimensional observations and uint8 images).

``data/<demo>/actions`` (T, A), ``rewards`` (T,), ``obs/<key>`` (T, …); attributes may hold operator and seed, and ``data``
the environment's description as JSON. ``mask/<key>`` names the demonstrations of a subset, a filter key. LIBERO's files are
laid out alike and hold the instruction in ``problem_info``.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from postbc.demos.episode import Episode
from postbc.demos.readers.hdf5 import array, group, number, plain, strings, tree
from postbc.errors import DataError

SUFFIXES = (".hdf5", ".h5")
DESCRIBED = ("env_args", "problem_info")  # JSON attributes of ``data``


def matches(path: Path) -> bool:
    """True for a file named like HDF5; what is inside is judged when it is read."""
    return path.is_file() and path.suffix in SUFFIXES


def read(path: Path, subset: str | None = None) -> Iterator[Episode]:
    """Yield the demonstrations in the order of their numbers, or those of the filter key ``subset``.

    Raises DataError when the file is not robomimic's or has no such key.
    """
    with h5py.File(path, "r") as file:
        data = group(file, "data", str(path))
        recorded = {key: str(plain(data.attrs[key])) for key in DESCRIBED if key in data.attrs}
        for name in sorted(data if subset is None else _subset(file, subset, path), key=number):
            yield _episode(group(data, name, str(path)), path, name, recorded)


def _subset(file: h5py.File, key: str, path: Path) -> list[str]:
    masks = group(file, "mask", str(path)) if "mask" in file else {}
    if key not in masks:
        raise DataError(f"{path}: there is no filter key '{key}', found {', '.join(sorted(masks)) or 'none'}.")
    names = strings(masks, key, f"{path}: mask")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _described(recorded: dict[str, Any]) -> dict[str, object]:
    """Rate and instruction, where the descriptions have them."""
    found: dict[str, object] = {}
    with suppress(ValueError, KeyError, TypeError):
        found["fps"] = float(json.loads(recorded["env_args"])["env_kwargs"]["control_freq"])
    with suppress(ValueError, KeyError, TypeError):
        found["task"] = "".join(json.loads(recorded["problem_info"])["language_instruction"])
    return found


def _episode(demo: h5py.Group, path: Path, name: str, recorded: dict[str, str]) -> Episode:
    where = f"{path}: {name}"
    if "states" in demo and "obs" not in demo:
        raise DataError(
            f"{where}: it holds simulator states without observations; robomimic's dataset_states_to_obs adds them."
        )
    reward = array(demo, "rewards", where)
    # The sparse reward is 1 exactly where the task is done; of any other it has to be said (`postbc export` does).
    sparse = bool(np.isin(reward, (0, 1)).all())
    success = array(demo, "success", where) if "success" in demo else reward if sparse else np.zeros_like(reward)
    own = {key: plain(value) for key, value in sorted(demo.attrs.items()) if key != "model_file"}
    said = {**recorded, **own}  # what an episode says of itself counts
    return Episode(
        action=array(demo, "actions", where),
        obs=dict(tree(group(demo, "obs", where), f"{where}/obs")),
        reward=reward,
        success=success > 0,
        facts={**_described(said), **said, "name": name},
    )
