"""What is taken from a file at most, and where it lies: what a header claims is checked before it is believed.

A reader keeps one array of an episode at a time beside what it has read, each of EPISODE_BYTES at most; a chunk that would
unpack to more than the header says is refused before it is unpacked.
"""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from postbc.errors import DataError

EPISODE_BYTES = 4 * 2**30  # of one array of one episode, unpacked
JSON_BYTES = 64 * 2**20
DEFLATE, LZF = 1032, 90  # bytes that a byte of zlib's and of LZF's format can stand for at most


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


def text(path: Path) -> str:
    """A text file that comes with a recording; DataError for more than JSON_BYTES."""
    if path.stat().st_size > JSON_BYTES:
        raise DataError(f"{path}: expected at most {JSON_BYTES // 2**20} MiB of text.")
    return path.read_text()


def refuse_bomb(data: bytes, compressor: str | None, limit: int, where: str) -> None:
    """Raise DataError where ``data``, a chunk packed by ``compressor`` (numcodecs' name), unpacks to over ``limit`` bytes."""
    if compressor not in _SIZES:
        raise DataError(f"{where}: packed by {compressor}; {', '.join(map(str, _SIZES))} are read.")
    if _SIZES[compressor](data, limit) > limit:
        raise DataError(f"{where}: unpacks to more than the {limit} bytes that it may hold.")


def _zstd(frame: bytes, limit: int) -> int:
    """The content size in a frame's header (RFC 8878, 3.1.1.1); what does not say is too much."""
    flags = frame[4] if len(frame) > 4 else 0
    single = flags >> 5 & 1
    start = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    size = (single, 2, 4, 8)[flags >> 6]
    if not size or frame[:4] != b"\x28\xb5\x2f\xfd":
        return limit + 1
    return int.from_bytes(frame[start : start + size], "little") + (256 if size == 2 else 0)


def _deflated(data: bytes, limit: int) -> int:
    """Counted by unpacking, a piece at a time; not at all where the format's ratio leaves no room for too much."""
    if len(data) * DEFLATE <= limit:
        return 0
    unpacking, size = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    while data and size <= limit:
        size += len(unpacking.decompress(data, 2**20))
        data = unpacking.unconsumed_tail or unpacking.unused_data
        if unpacking.eof:  # another member follows
            unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
    return size


_SIZES: dict[str | None, Callable[[bytes, int], int]] = {
    None: lambda data, _: len(data),
    "blosc": lambda data, _: int.from_bytes(data[4:8], "little"),
    "lz4": lambda data, _: int.from_bytes(data[:4], "little"),
    "lzf": lambda data, _: len(data) * LZF,
    "zstd": _zstd,
    "zlib": _deflated,
    "gzip": _deflated,
}


def refuse_special(path: Path) -> None:
    """Raise DataError for anything in ``path`` but files and folders that lie in it: reading a device could never end."""
    for found in path.rglob("*") if path.is_dir() else ():
        if found.is_symlink():
            inside(path, str(found.relative_to(path)))
        if not (found.is_file() or found.is_dir()):
            raise DataError(f"{found} is neither a file nor a folder.")


def inside(root: Path, name: str) -> Path:
    """``root``/``name``; DataError where that, followed through links, lies outside of ``root``."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{root}: {name} leads out of the recording.")
    return path
