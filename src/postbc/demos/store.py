"""The demonstration store: a folder of immutable segments, each a Zarr 3 group with whole episodes end to end.

    <store>/store.json                  segment name → fingerprint, and its own sha256; written last: it commits the store
    <store>/<segment>/manifest.json     sha256 of every file of the segment
    <store>/<segment>/{action,reward,success,timestamp,episode_ends,obs/<key>}

A segment appears under its name only when it is whole and on the disk, so a killed writer leaves nothing to repair and
the next one goes on after the last whole segment. Chunks are a training window long, or more until they have 64 KiB (a
chunk costs as much time as that), and packed into one shard an array, which keeps the number of files small. Every chunk
carries a zstd checksum.
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from postbc.demos.bounds import described, inside
from postbc.demos.episode import Episode, common
from postbc.errors import DataError, IntegrityError
from postbc.storage.atomic import atomic_folder, write_json
from postbc.storage.manifest import NAME as MANIFEST
from postbc.storage.manifest import check_manifest, fingerprint, restoring, write_manifest

INDEX = "store.json"
FORMAT = 2
CHUNK_FRAMES, CHUNK_BYTES = 64, 2**16
SEGMENT_BYTES = 64 * 2**20


def _write_array(group: zarr.Group, key: str, values: np.ndarray) -> None:
    frames = max(CHUNK_FRAMES, CHUNK_BYTES // values[0].nbytes)
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
        shared = common([episode.facts for episode in episodes])
        own = [{k: v for k, v in episode.facts.items() if k not in shared} for episode in episodes]
        group.attrs.update({"fps": fps, "all": shared, "episodes": own})
        write_manifest(building)


def commit(store: Path, names: Iterable[str], warnings: Sequence[dict[str, Any]] = ()) -> None:
    """Make ``names``, in this order, the content of the store; ``warnings`` are what checks found in them."""
    segments = [{"name": name, "fingerprint": fingerprint(store / name)} for name in names]
    index = {"format": FORMAT, "segments": segments, "warnings": list(warnings)}
    write_json(store / INDEX, {**index, "sha256": _digest(index)})


def _digest(index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _index(store: Path) -> dict[str, Any]:
    """What was committed. Raises DataError when nothing was, IntegrityError when a byte of it changed."""
    path = store / INDEX
    if not path.is_file():
        raise DataError(f"{store} is not a finished demonstration store ({INDEX} is missing). Run `dvc repro`.")
    index = described(path)
    if index.get("format") != FORMAT:
        raise DataError(f"{store} has format {index.get('format')}, this version reads format {FORMAT}.")
    if index.pop("sha256", None) != _digest(index):
        raise IntegrityError(f"{path} is damaged. Run `dvc checkout --force {shlex.quote(str(path))}`.")
    return index


def segment_names(store: Path) -> list[str]:
    """Names of the committed segments, each checked against its fingerprint and its manifest.

    Raises DataError when there is no store, IntegrityError when a byte changed or a file is missing.
    """
    index = _index(store)
    for segment in index["segments"]:
        folder = inside(store, segment["name"])
        check_manifest(folder)
        if fingerprint(folder) != segment["fingerprint"]:
            raise IntegrityError(f"{folder} is not the segment that {store / INDEX} lists. {restoring(folder)}")
    return [segment["name"] for segment in index["segments"]]


def open_segment(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(Zarr arrays by key, attributes) of one segment."""
    group: Any = zarr.open_group(folder, mode="r", zarr_format=3)
    keys = ["action", "reward", "success", "episode_ends", *(f"obs/{key}" for key in sorted(group["obs"].array_keys()))]
    return {key: group[key] for key in keys}, dict(group.attrs)


def read_segment(folder: Path) -> list[Episode]:
    """The episodes of one segment."""
    arrays, attributes = open_segment(folder)
    read = {key: np.asarray(array[:]) for key, array in arrays.items()}
    action, reward, success, ends = (read.pop(key) for key in ("action", "reward", "success", "episode_ends"))
    obs = {key.removeprefix("obs/"): values for key, values in read.items()}
    bounds = zip([0, *ends[:-1]], ends, attributes["episodes"], strict=True)
    return [
        Episode(
            action[a:b], {k: v[a:b] for k, v in obs.items()}, reward[a:b], success[a:b], {**attributes["all"], **facts}
        )
        for a, b, facts in bounds
    ]


def read_store(store: Path) -> Iterator[Episode]:
    """All episodes of a store, in order, after checking it."""
    for name in segment_names(store):
        yield from read_segment(store / name)


def listed_segments(store: Path) -> list[str]:
    """Names of the committed segments without checking them; empty when there is no store yet."""
    return [segment["name"] for segment in _index(store)["segments"]] if (store / INDEX).is_file() else []


def rates(store: Path) -> set[float]:
    """Steps a second of the committed segments."""
    groups: list[Any] = [zarr.open_group(store / name, mode="r") for name in listed_segments(store)]
    return {float(group.attrs["fps"]) for group in groups}


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
    commit(store, [name for name in kept if name not in names], _index(store)["warnings"])
    for name in names:
        shutil.rmtree(store / name)
