"""Folder of .npz files, one an episode, and episodes.json, which may be {}.

Arrays are ``action`` (T, A), ``obs/<key>`` (T, …), and ``reward``, ``success`` (T,) if known. ``episodes.json`` may say
``fps``, ``task`` and which array of the files is which:

    {"fps": 20, "task": "Lift the cube.", "keys": {"action": "actions", "obs/state": "qpos", "obs/top": "camera"}}

Without ``keys`` arrays have the names above. Episodes are read in the order of their file names.
"""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from postbc.demos.bounds import check_size, described, inside
from postbc.demos.episode import Episode
from postbc.errors import DataError

INDEX = "episodes.json"


def matches(path: Path) -> bool:
    """True for a folder with ``episodes.json``."""
    return (path / INDEX).is_file()


def read(path: Path) -> Iterator[Episode]:
    """Yield the episodes; DataError naming file and array."""
    said = described(path / INDEX)
    keys = said.get("keys", {})
    if not isinstance(keys, dict) or not all(isinstance(name, str) for name in keys.values()):
        raise DataError(f'{path / INDEX}: expected {{"fps": …, "task": …, "keys": {{key: array, …}}}}.')
    facts: dict[str, Any] = {key: str(said[key]) for key in ("task", "operator") if key in said}
    facts |= {"fps": float(said["fps"])} if "fps" in said else {}
    files = sorted(child.name for child in path.iterdir() if child.suffix == ".npz")
    if not files:
        raise DataError(f"{path}: there is no .npz file beside {INDEX}.")
    for name in files:
        yield _episode(inside(path, name), keys, facts)


def _episode(path: Path, keys: dict[str, str], facts: dict[str, Any]) -> Episode:
    try:
        arrays = dict(_arrays(path, set(keys.values())))
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, SyntaxError) as error:
        raise DataError(f"{path}: not readable as .npz ({error}). Copy or record it again.") from error
    if keys:
        missing = sorted(set(keys.values()) - arrays.keys())
        if missing:
            held = sorted(name.removesuffix(".npy") for name in zipfile.ZipFile(path).namelist())
            raise DataError(f"{path}: {', '.join(missing)} of {INDEX} missing, found {', '.join(held)}.")
        arrays = {key: arrays[name] for key, name in keys.items()}
    if "action" not in arrays:
        raise DataError(f"{path}: no array 'action', found {', '.join(sorted(arrays)) or 'none'}; see keys in {INDEX}.")
    action = arrays["action"].astype(np.float32)
    nothing = np.zeros(len(action) if action.ndim else 0, np.float32)
    obs = {key.removeprefix("obs/"): _stored(value) for key, value in arrays.items() if key.startswith("obs/")}
    reward, success = arrays.get("reward", nothing).astype(np.float32), arrays.get("success", nothing) > 0
    return Episode(action, obs, reward, success, {"name": path.stem, **facts})


def _stored(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.uint8 and values.ndim == 4 else values.astype(np.float32)


def _arrays(path: Path, wanted: set[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The ``wanted`` arrays of one file, or all; each header is looked at before its numbers are unpacked."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if wanted and member.removesuffix(".npy") not in wanted:
                continue
            where = f"{path}: {member}"
            with archive.open(member) as file:
                version = npy.read_magic(file)
                header = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
                shape, _, dtype = header
                if dtype.kind not in "fiub":  # objects are pickled, and unpickling runs code
                    raise DataError(f"{where}: not an array of numbers (dtype {dtype}).")
                check_size(shape, dtype, where)
            with archive.open(member) as file:
                yield member.removesuffix(".npy"), npy.read_array(file, allow_pickle=False)
