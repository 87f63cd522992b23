"""postbc demonstration store (of another project, of a robot's session, of rollouts); several of them are so merged.

``store.json`` and segments, see :mod:`postbc.demos.store`. Everything is checked against its manifest; the source that the
store itself took an episode from stays with it as ``origin``.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

from postbc.demos import bounds
from postbc.demos.bounds import check_size, refuse_bomb
from postbc.demos.episode import Episode
from postbc.demos.store import INDEX, open_segment, read_segment, segment_names
from postbc.errors import DataError

_ORIGIN = {"source": "origin", "sha256": "origin_sha256"}
CHECKSUM = 4  # bytes after a shard's index


def matches(path: Path) -> bool:
    """True for a folder with ``store.json``."""
    return (path / INDEX).is_file()


def read(path: Path) -> Iterator[Episode]:
    """Yield the episodes in order; IntegrityError for a store that was altered."""
    for name in segment_names(path):
        arrays, attributes = open_segment(path / name)
        for key, array in arrays.items():
            _refuse_foreign(array, path / name / key, f"{path}: {name}/{key}")
        fps = float(attributes["fps"])
        for episode in read_segment(path / name):
            facts = {_ORIGIN.get(key, key): value for key, value in episode.facts.items()}
            yield replace(episode, facts={"fps": fps, **facts})


def _refuse_foreign(array: Any, folder: Path, where: str) -> None:
    """Raise DataError for an array that the store would not have written, or whose chunks would unpack to too much."""
    codecs = array.metadata.codecs
    packed = codecs[0].codecs if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec) else ()
    plain = packed and [type(c) for c in codecs[0].index_codecs] == [BytesCodec, Crc32cCodec]
    plain = plain and codecs[0].index_location == "end"
    if not plain or [type(codec) for codec in packed] != [BytesCodec, ZstdCodec] or array.dtype.kind not in "fiub":
        raise DataError(f"{where}: not an array that a demonstration store holds.")
    holds = int(np.prod(array.chunks)) * array.dtype.itemsize
    for shape in (array.shape, array.shards):
        check_size(shape, array.dtype, where)
    chunks = int(np.prod(array.shards)) // max(int(np.prod(array.chunks)), 1)
    for shard in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "zarr.json"):
        if shard.stat().st_size > bounds.EPISODE_BYTES:
            raise DataError(f"{where}: {shard.name} is larger than what is read.")
        data = shard.read_bytes()
        index = np.frombuffer(data[-16 * chunks - CHECKSUM : -CHECKSUM], "<u8").reshape(-1, 2)
        for start, size in index[index[:, 0] != np.iinfo(np.uint64).max].tolist():
            refuse_bomb(data[start : start + size], "zstd", holds, where)
