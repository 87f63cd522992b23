"""The demonstration store: a folder of immutable segments, each a Zarr 3 group with whole episodes end to end.

    <store>/store.json                  segment name → fingerprint; written last, so it commits the store
    <store>/<segment>/manifest.json     sha256 of every file of the segment
    <store>/<segment>/{action,reward,success,timestamp,episode_ends,obs/<key>}

A segment appears under its name only when it is whole and on the disk, so a killed writer leaves nothing to repair and
the next one goes on after the last whole segment. Chunks are about a training window long and packed into one shard an
array, which keeps the number of files small. Every chunk carries a zstd checksum.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from postbc.demos.episode import Episode
from postbc.errors import DataError, IntegrityError
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import NAME as MANIFEST
from postbc.storage.manifest import check_manifest, fingerprint, write_manifest

INDEX = "store.json"
FORMAT = 1
CHUNK_FRAMES = 64
SEGMENT_BYTES = 64 * 2**20


def _write_array(group: zarr.Group, key: str, values: np.ndarray) -> None:
    frames = CHUNK_FRAMES if key != "episode_ends" else max(len(values), 1)
    shards = -(-len(values) // frames) * frames
    array = group.create_array(
        key,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(frames, *values.shape[1:]),
        shards=(shards, *values.shape[1:]),
        compressors=ZstdCodec(level=3, checksum=True),
    )
    array[:] = values


def segment_is_whole(store: Path, name: str) -> bool:
    """True when the segment is there; a segment that is there but altered raises IntegrityError."""
    if not (store / name / MANIFEST).is_file():
        return False
    check_manifest(store / name)
    return True


def write_segment(store: Path, name: str, episodes: list[Episode], fps: float) -> None:
    """Add one segment with ``episodes`` (at least one) recorded at ``fps`` steps a second."""
    arrays = [episode.arrays() for episode in episodes]
    with atomic_folder(store / name) as building:
        group = zarr.create_group(building, zarr_format=3, overwrite=True)
        for key in sorted(arrays[0]):
            _write_array(group, key, np.concatenate([a[key] for a in arrays]))
        lengths = [len(episode) for episode in episodes]
        _write_array(group, "timestamp", np.concatenate([np.arange(n) / fps for n in lengths]))
        _write_array(group, "episode_ends", np.cumsum(lengths, dtype=np.int64))
        group.attrs.update({"fps": fps, "episodes": [episode.facts for episode in episodes]})
        write_manifest(building)


def commit(store: Path, names: Iterable[str], warnings: Sequence[dict[str, Any]] = ()) -> None:
    """Make ``names``, in this order, the content of the store; ``warnings`` are what checks found in them."""
    segments = [{"name": name, "fingerprint": fingerprint(store / name)} for name in names]
    write_json(store / INDEX, {"format": FORMAT, "segments": segments, "warnings": list(warnings)})


def segment_names(store: Path) -> list[str]:
    """Names of the committed segments, each checked against its fingerprint and its manifest.

    Raises DataError when there is no store, IntegrityError when a byte changed or a file is missing.
    """
    if not (store / INDEX).is_file():
        raise DataError(f"{store} is not a finished demonstration store ({INDEX} is missing). Run `dvc repro`.")
    index = read_json(store / INDEX)
    if index.get("format") != FORMAT:
        raise DataError(f"{store} has format {index.get('format')}, this version reads format {FORMAT}.")
    for segment in index["segments"]:
        folder = store / segment["name"]
        check_manifest(folder)
        if fingerprint(folder) != segment["fingerprint"]:
            raise IntegrityError(f"{folder} is not the segment that {store / INDEX} lists. Run `dvc checkout --force`.")
    return [segment["name"] for segment in index["segments"]]


def read_segment(folder: Path) -> list[Episode]:
    """The episodes of one segment."""
    group: Any = zarr.open_group(folder, mode="r", zarr_format=3)
    obs = {key: np.asarray(group[f"obs/{key}"][:]) for key in sorted(group["obs"].array_keys())}
    action, reward, success, ends = (np.asarray(group[k][:]) for k in ("action", "reward", "success", "episode_ends"))
    bounds = zip([0, *ends[:-1]], ends, group.attrs["episodes"], strict=True)
    return [
        Episode(action[a:b], {k: v[a:b] for k, v in obs.items()}, reward[a:b], success[a:b], dict(facts))
        for a, b, facts in bounds
    ]


def read_store(store: Path) -> Iterator[Episode]:
    """All episodes of a store, in order, after checking it."""
    for name in segment_names(store):
        yield from read_segment(store / name)


def listed_segments(store: Path) -> list[str]:
    """Names of the committed segments without checking them; empty when there is no store yet."""
    index = store / INDEX
    return [segment["name"] for segment in read_json(index)["segments"]] if index.is_file() else []


def episode_count(store: Path) -> int:
    """Number of episodes in the committed segments."""
    groups: list[Any] = [zarr.open_group(store / name, mode="r") for name in listed_segments(store)]
    return sum(len(group.attrs["episodes"]) for group in groups)


def compact(store: Path, names: list[str], fps: float) -> None:
    """Join committed segments ``names`` into one, in the place of the first; a crash on the way loses nothing."""
    joined = f"{names[0]}-to-{names[-1]}"
    episodes = [episode for name in names for episode in read_segment(store / name)]
    write_segment(store, joined, episodes, fps)
    kept = [joined if name == names[0] else name for name in listed_segments(store)]
    commit(store, [name for name in kept if name not in names], read_json(store / INDEX).get("warnings", []))
    for name in names:
        shutil.rmtree(store / name)
