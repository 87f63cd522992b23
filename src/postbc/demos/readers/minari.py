"""Minari dataset (HDF5 storage; nested observations, JPEG images).

``data/metadata.json`` and ``data/main_data.hdf5`` with ``episode_<i>/{observations, actions, rewards, terminations,
truncations, infos}``. Observations number one more than actions: the last, seen after the last action, is left out.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from postbc.demos.bounds import check_size, described
from postbc.demos.episode import Episode
from postbc.demos.readers.hdf5 import array, group, number, plain
from postbc.errors import DataError

FILE, METADATA = "main_data.hdf5", "metadata.json"
PARTS = (FILE, "data")  # which look like recordings themselves


def matches(path: Path) -> bool:
    """True for a folder, or its ``data`` folder, with Minari's metadata and HDF5 file."""
    folder = _folder(path)
    return (folder / FILE).is_file() and (folder / METADATA).is_file()


def _folder(path: Path) -> Path:
    return path / "data" if (path / "data" / FILE).is_file() else path


def read(path: Path) -> Iterator[Episode]:
    """Yield the episodes in the order of their numbers.

    A step is a success where ``infos/success`` says so; where that was not recorded success is not known and False.
    """
    folder = _folder(path)
    known = described(folder / METADATA)
    recorded = {k: known[k] for k in ("dataset_id", "env_spec", "author") if known.get(k)}
    with h5py.File(folder / FILE, "r") as file:
        for name in sorted(file, key=number):
            yield _episode(group(file, name, str(path)), path, name, recorded)


def _episode(episode: h5py.Group, path: Path, name: str, recorded: dict[str, object]) -> Episode:
    where = f"{path}: {name}"
    action, reward = array(episode, "actions", where), array(episode, "rewards", where)
    count = len(action)
    success = np.zeros(count, np.float32) > 0
    if "infos" in episode and "success" in (infos := group(episode, "infos", where)):
        success = array(infos, "success", where)[-count:] > 0
    facts = {k: plain(v) for k, v in sorted(episode.attrs.items()) if k != "id"}
    obs = {key: values[:count] for key, values in _observations(episode, "observations", where)}
    return Episode(action, obs, reward, success, {**facts, **recorded, "name": name})


def _observations(parent: h5py.Group, name: str, where: str, key: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """(key, values) of a space: Dict and Tuple members joined by a dot, a lone array as ``observation``."""
    if isinstance(parent.get(name, getlink=True), h5py.HardLink) and isinstance(parent[name], h5py.Group):
        for member in sorted(parent[name]):
            inner = f"{key}.{member.removeprefix('_index_')}".lstrip(".")
            yield from _observations(parent[name], member, f"{where}/{name}", inner)
        return
    dataset = parent.get(name) if isinstance(parent.get(name, getlink=True), h5py.HardLink) else None
    compressed = isinstance(dataset, h5py.Dataset) and dataset.dtype.kind == "O"
    yield key or "observation", _images(dataset, f"{where}/{name}") if compressed else array(parent, name, where)


def _images(dataset: h5py.Dataset, where: str) -> np.ndarray:
    """JPEG files kept as bytes, one a frame."""
    if h5py.check_vlen_dtype(dataset.dtype) != np.uint8:
        raise DataError(f"{where}: neither numbers nor images.")
    try:
        opened = [Image.open(io.BytesIO(bytes(frame)), formats=["JPEG"]) for frame in dataset]
        if opened:
            check_size((len(opened), *map(max, zip(*(one.size for one in opened), strict=True)), 3), np.uint8, where)
        frames = [np.asarray(image) for image in opened]
        return np.stack([frame[..., None] if frame.ndim == 2 else frame for frame in frames])
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: an image can not be decoded ({error}).") from error
