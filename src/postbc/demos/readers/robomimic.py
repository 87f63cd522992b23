"""robomimic HDF5 (versions 1.4 and 1.5, low-dimensional observations and uint8 images).

``data/<demo>/actions`` (T, A), ``rewards`` (T,), ``obs/<key>`` (T, …); attributes may hold operator and seed, and
``data`` the environment's description as JSON.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from postbc.demos.episode import Episode
from postbc.errors import DataError


def matches(path: Path) -> bool:
    """True for a file named like HDF5; what is inside is judged when it is read."""
    return path.is_file() and path.suffix in (".hdf5", ".h5")


def read(path: Path) -> Iterator[Episode]:
    """Yield the demonstrations in the order of their numbers; DataError when the file is corrupt or not robomimic's."""
    try:
        with h5py.File(path, "r") as file:
            data = _group(file, "data", str(path))
            recorded = {"env_args": str(data.attrs["env_args"])} if "env_args" in data.attrs else {}
            for name in sorted(data, key=_number):
                yield _episode(_group(data, name, str(path)), path, name, recorded)
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{path}: not readable as HDF5 ({error}). Copy or record it again.") from error


def _number(name: str) -> tuple[int, str]:
    digits = re.search(r"\d+$", name)
    return (int(digits.group()) if digits else -1, name)


def _group(parent: h5py.Group, name: str, where: str) -> h5py.Group:
    # A soft or external link could lead into another file, so only what lies in this one is followed.
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink) or not isinstance(parent[name], h5py.Group):
        raise DataError(f"{where}: there is no group '{name}' in it; is it a robomimic file?")
    return parent[name]


def _array(group: h5py.Group, name: str, where: str) -> np.ndarray:
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise DataError(f"{where}: '{name}' is missing.")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiub":
        raise DataError(f"{where}: '{name}' is not an array of numbers.")
    values = np.asarray(dataset[()])
    return values if values.dtype == np.uint8 and values.ndim == 4 else values.astype(np.float32)  # camera images stay


def _episode(demo: h5py.Group, path: Path, name: str, recorded: dict[str, str]) -> Episode:
    where = f"{path}: {name}"
    reward = _array(demo, "rewards", where)
    obs = _group(demo, "obs", where)
    return Episode(
        action=_array(demo, "actions", where),
        obs={key: _array(obs, key, f"{where}/obs") for key in sorted(obs)},
        reward=reward,
        success=reward > 0,  # robomimic's sparse reward is 1 exactly where the task is done
        facts={"name": name, **recorded, **{k: _plain(v) for k, v in sorted(demo.attrs.items()) if k != "model_file"}},
    )


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
