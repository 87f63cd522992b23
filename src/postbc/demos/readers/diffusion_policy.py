"""Diffusion Policy replay buffer (Zarr 2, a folder or a .zip of one).

``data/action`` (N, A), ``data/<key>`` (N, …) with all episodes end to end, ``meta/episode_ends`` (E,) one past each last step.
Camera images ``data/img`` (N, h, w, C) hold values 0 to 255, often as floats, and become uint8.
"""

import json
import math
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

from postbc.demos import bounds
from postbc.demos.bounds import check_size, refuse_bomb
from postbc.demos.episode import Episode, as_uint8
from postbc.errors import DataError

IMAGES, ENDS, HEADER = "data/img", "meta/episode_ends", ".zarray"
HEADER_BYTES = 2**20


def matches(path: Path) -> bool:
    """True for a Zarr 2 group with ``meta/episode_ends``."""
    if path.suffix == ".zip" and path.is_file():
        try:
            return f"{ENDS}/{HEADER}" in zipfile.ZipFile(path).namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return True  # damaged: reading it says so
    return (path / ".zgroup").is_file() and (path / ENDS).is_dir()


class _Files:
    """The replay buffer's folder, or the archive that it is packed in."""

    def __init__(self, path: Path) -> None:
        self.path, self._archive = path, zipfile.ZipFile(path) if path.is_file() else None
        for name in self._archive.namelist() if self._archive else ():
            if name.startswith("/") or ".." in name.split("/"):
                raise DataError(f"{path}: {name} leads out of the archive.")
        self.store = ZipStore(path, mode="r") if self._archive else LocalStore(path, read_only=True)

    def arrays(self) -> list[str]:
        """Names of the arrays in ``data``."""
        if self._archive is None:
            return sorted(f"data/{p.parent.name}" for p in (self.path / "data").glob(f"*/{HEADER}"))
        parts = [name.split("/") for name in self._archive.namelist()]
        return sorted(f"data/{own[1]}" for own in parts if len(own) == 3 and (own[0], own[2]) == ("data", HEADER))

    def header(self, name: str) -> dict[str, Any]:
        """What Zarr says of an array."""
        if self._archive is None:
            size, read = (self.path / name / HEADER).stat().st_size, (self.path / name / HEADER).read_bytes
        else:
            info = self._archive.getinfo(f"{name}/{HEADER}")
            size, read = info.file_size, lambda: self._archive.read(info)  # type: ignore[union-attr]
        if size > HEADER_BYTES:
            raise ValueError(f"its header has {size} bytes")
        return dict(json.loads(read()))

    def chunks(self, name: str, limit: int) -> Iterator[tuple[str, bytes]]:
        """(file, content) of an array's chunks; DataError for a file beyond ``limit`` bytes."""
        if self._archive is None:
            files = [p for p in (self.path / name).rglob("*") if p.is_file() and not p.name.startswith(".")]
            found = [(str(p.relative_to(self.path)), p.stat().st_size, p.read_bytes) for p in files]
        else:
            own = [i for i in self._archive.infolist() if i.filename.startswith(f"{name}/") and "/." not in i.filename]
            found = [(i.filename, i.file_size, partial(self._archive.read, i)) for i in own]
        for file, size, read in found:
            if size > limit:
                raise DataError(f"{self.path}: {file} has {size} bytes, a chunk at most {limit}.")
            yield file, read()


def read(path: Path) -> Iterator[Episode]:
    """Yield the recorded episodes; DataError when the arrays do not fit together.

    The format holds neither rewards nor success, so both are zero.
    """
    files = _Files(path)
    ends = _array(files, ENDS).astype(np.int64)
    arrays = {name.removeprefix("data/"): _array(files, name) for name in files.arrays()}
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


def _refuse_bombs(files: _Files, name: str, header: dict[str, Any], dtype: np.dtype) -> None:
    """Raise DataError for a chunk that says it would unpack to more than a chunk holds."""
    compressor = (header.get("compressor") or {}).get("id")
    holds = math.prod(map(int, header["chunks"])) * dtype.itemsize
    limit = min(bounds.EPISODE_BYTES, 2 * holds + 4096)  # what does not compress grows a little
    for file, data in files.chunks(name, limit):
        refuse_bomb(data, compressor, limit, f"{files.path}: {file}")


def _array(files: _Files, name: str) -> np.ndarray:
    where = f"{files.path}/{name}"
    try:
        header = files.header(name)
        dtype = np.dtype(str(header["dtype"]))
        # Object arrays are pickled by Zarr 2, and unpickling runs code: only plain numbers are opened.
        if header.get("filters") or dtype.kind not in "fiub":
            raise DataError(f"{where}: not a plain array of numbers (dtype {dtype}).")
        for shape in ("shape", "chunks"):
            check_size(tuple(header[shape]), dtype, where)
        _refuse_bombs(files, name, header, dtype)
        stored = zarr.open_array(files.store, path=name, mode="r", zarr_format=2)
        if stored.nchunks_initialized < stored.nchunks:  # Zarr reads a missing chunk as zeros
            raise DataError(f"{where}: {stored.nchunks - stored.nchunks_initialized} chunk files are missing.")
        values = np.asarray(stored[:])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        raise DataError(f"{where}: not readable as Zarr 2 ({error}).") from error
    if name == IMAGES:
        return as_uint8(values, where)
    kept = not name.startswith("data/") or (values.dtype == np.uint8 and values.ndim == 4)
    return values if kept else values.astype(np.float32)
