"""Diffusion Policy replay buffer (Zarr 2 folder).

``data/action`` (N, A), ``data/<key>`` (N, …) with all episodes end to end, ``meta/episode_ends`` (E,) one past each last step.
Camera images ``data/img`` (N, h, w, C) hold values 0 to 255, often as floats, and become uint8.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr

from postbc.demos.episode import Episode, as_uint8
from postbc.errors import DataError
from postbc.storage.atomic import read_json

IMAGES = "data/img"


def matches(path: Path) -> bool:
    """True for a Zarr 2 group with ``meta/episode_ends``."""
    return (path / ".zgroup").is_file() and (path / "meta" / "episode_ends").is_dir()


def read(path: Path) -> Iterator[Episode]:
    """Yield the recorded episodes; DataError when the arrays do not fit together.

    The format holds neither rewards nor success, so both are zero.
    """
    ends = _array(path, "meta/episode_ends").astype(np.int64)
    keys = sorted(p.name for p in (path / "data").iterdir() if (p / ".zarray").is_file())
    arrays = {key: _array(path, f"data/{key}") for key in keys}
    if "action" not in arrays:
        raise DataError(f"{path}: data/action is missing.")
    total = len(arrays["action"])
    if len(ends) == 0 or ends[-1] != total or (np.diff(ends, prepend=0) <= 0).any():
        raise DataError(f"{path}: meta/episode_ends does not rise to the {total} frames of data/action.")
    for key, values in arrays.items():
        if len(values) != total:
            raise DataError(f"{path}: data/{key} has {len(values)} frames, data/action has {total}.")
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        rows = {key: values[start:end] for key, values in arrays.items()}
        action = rows.pop("action")
        nothing = np.zeros(len(action), np.float32)
        yield Episode(action, rows, nothing, nothing > 0, {"name": f"episode_{number}"})


def _array(path: Path, name: str) -> np.ndarray:
    folder = path / name
    try:
        header = read_json(folder / ".zarray")
        # Object arrays are pickled by Zarr 2, and unpickling runs code: only plain numbers are opened.
        if header.get("filters") or np.dtype(header["dtype"]).kind not in "fiub":
            raise DataError(f"{folder}: not a plain array of numbers (dtype {header['dtype']}).")
        stored = zarr.open_array(folder, mode="r", zarr_format=2)
        if stored.nchunks_initialized < stored.nchunks:  # Zarr reads a missing chunk as zeros
            raise DataError(f"{folder}: {stored.nchunks - stored.nchunks_initialized} chunk files are missing.")
        values = np.asarray(stored[:])
        if name == IMAGES:
            return as_uint8(values, str(folder))
        return values.astype(np.float32) if name.startswith("data/") else values
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{folder}: not readable as Zarr 2 ({error}).") from error
