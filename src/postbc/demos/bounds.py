"""What a reader takes from a file at most, and where it looks: a header is not trusted before it is believed."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from postbc.errors import DataError

EPISODE_BYTES = 4 * 2**30  # of one array of one episode, unpacked

JSON_BYTES = 64 * 2**20


def described(path: Path) -> dict[str, Any]:
    """The JSON object in a file that comes with a recording; DataError for anything else."""
    try:
        found = json.loads(path.read_bytes()) if path.stat().st_size <= JSON_BYTES else None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}).") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected a JSON object of at most 64 MiB.")
    return found


def check_size(shape: tuple[int, ...], dtype: DTypeLike, where: str) -> None:
    """Raise DataError for an array that would not fit into EPISODE_BYTES: a damaged header, or a bomb."""
    size = math.prod(int(n) for n in shape) * np.dtype(dtype).itemsize
    if size > EPISODE_BYTES:
        raise DataError(
            f"{where}: shape {shape} of {np.dtype(dtype)} takes {size / 2**30:.0f} GiB, at most 4 are read."
        )


def inside(root: Path, name: str) -> Path:
    """``root``/``name``; DataError where that, followed through links, lies outside of ``root``."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{root}: {name} leads out of the recording.")
    return path
