"""LeRobotDataset v3.0 or v2.1 folder (parquet, PNG and video), read without LeRobot.

    v3.0   data/chunk-*/file-*.parquet with many episodes each; meta/episodes/**.parquet says which lies where
    v2.1   data/chunk-*/episode_*.parquet with one each; meta/episodes.jsonl

``meta/info.json`` names features, rate and where files lie. Observation keys lose ``observation.`` in front; of images the
last part is kept (``observation.images.top`` is ``top``). Reward and success are ``next.reward`` and ``next.success``.
"""

import io
import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from postbc.demos.bounds import check_size, described, inside, text
from postbc.demos.episode import Episode
from postbc.errors import DataError

INFO = Path("meta") / "info.json"
OBSERVATION = "observation."
READ = ("action", "next.reward", "next.success", "timestamp")  # beside observations
IMAGES = ("image", "video")
MODES = ("L", "RGB", "RGBA", "P", "LA", "1")  # of pictures: 8 bits a channel
_FIELD = re.compile(r"\{(\w+)(?::0?(\d)d)?\}")  # {episode_index:06d}
Row = dict[str, Any]


def matches(path: Path) -> bool:
    """True for a folder with ``meta/info.json``."""
    return (path / INFO).is_file()


def read(path: Path) -> Iterator[Episode]:
    """Yield the episodes in order; DataError naming episode and key, e.g. for a video that is too short."""
    info = described(path / INFO)
    version, features, fps = str(info["codebase_version"]), dict(info["features"]), float(info["fps"])
    for row in _episodes(path, version):
        yield _episode(path, info, features, {**row, "fps": fps})


def _episodes(path: Path, version: str) -> list[Row]:
    """One row an episode: index, length, tasks, and where its files are."""
    if version.startswith("v3."):
        files = sorted((path / "meta" / "episodes").rglob("*.parquet"))
        tables = [_table(inside(path, str(file.relative_to(path))), file.stat().st_mtime_ns) for file in files]
        rows = [row for table in tables for row in table.to_pylist()]
        return sorted(rows, key=lambda row: int(row["episode_index"]))
    if version == "v2.1":
        lines = text(inside(path, "meta/episodes.jsonl")).splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    raise DataError(f"{path}: written for LeRobot's data set version {version}; v3.0 and v2.1 are read.")


def _place(info: Row, row: Row, key: str | None) -> str:
    """Where the file with an episode's numbers (``key`` None) or its video of ``key`` lies."""
    template = str(info["data_path"] if key is None else info["video_path"])
    start = "data" if key is None else f"videos/{key}"
    number = int(row["episode_index"])
    values = {
        "video_key": key,
        "chunk_index": row.get(f"{start}/chunk_index"),
        "file_index": row.get(f"{start}/file_index"),
        "episode_index": number,
        "episode_chunk": number // int(info.get("chunks_size") or 1000),
    }
    # Not str.format: it would look up attributes and pad without bound.
    return _FIELD.sub(lambda found: str(values[found[1]]).zfill(int(found[2] or 0)), template)


def _episode(path: Path, info: Row, features: Row, row: Row) -> Episode:
    number, count = int(row["episode_index"]), int(row["length"])
    where = f"{path}: episode {number}"
    file = inside(path, _place(info, row, None))
    table = _table(file, file.stat().st_mtime_ns)
    table = table.filter(pc.equal(table["episode_index"], number))
    if len(table) != count:
        raise DataError(f"{where}: {len(table)} frames in its parquet file, {count} in meta/.")
    columns: dict[str, np.ndarray] = {}
    for key, feature in _used(features).items():
        shape, kind = tuple(int(n) for n in feature["shape"]), str(feature["dtype"])
        if kind == "video":
            _refuse_depth(feature, f"{where}: {key}")
            columns[key] = _video(inside(path, _place(info, row, key)), row, key, f"{where}: {key}")
        elif kind == "image":
            columns[key] = _pictures(table[key].to_pylist(), f"{where}: {key}")
        elif kind != "string":
            columns[key] = _numbers(table[key], (count, *shape), f"{where}: {key}")
    seen = [key for key in columns if key.startswith(OBSERVATION)]
    obs = {_name(key, features[key]): columns[key] for key in seen}
    if len(obs) < len(seen):
        raise DataError(f"{where}: two of {', '.join(seen)} would have the same name.")
    nothing = np.zeros(count, np.float32)
    reward, success = (columns.get(key, nothing).reshape(count) for key in ("next.reward", "next.success"))
    if "action" not in columns:
        raise DataError(f"{where}: there is no action.")
    facts = {"name": f"episode_{number}", "fps": row["fps"], "task": "; ".join(map(str, row.get("tasks") or []))}
    if names := _names(features["action"].get("names")):
        facts["action_names"] = names
    clock = columns.get("timestamp")
    timestamp = None if clock is None else clock.reshape(count).astype(np.float64)
    return Episode(columns["action"], obs, reward.astype(np.float32), success > 0, facts, timestamp)


def _names(said: Any) -> list[str]:
    """What a feature's numbers are called: a list, or a list under a name of its own."""
    (found,) = said.values() if isinstance(said, dict) and len(said) == 1 else (said,)
    return list(found) if isinstance(found, list) and all(isinstance(name, str) for name in found) else []


def _used(features: Row) -> Row:
    """What is read; of the rest, some is what no array holds (LeRobot's language events)."""
    return {key: one for key, one in features.items() if key.startswith(OBSERVATION) or key in READ}


@lru_cache(maxsize=1)  # episodes lie in a file one after the other
def _table(path: Path, _: int) -> pa.Table:
    """A parquet file as it was at a time."""
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    unpacked = sum(group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns))
    # Rows that are all the same take next to no room in the file.
    check_size((max(unpacked, 8 * file.metadata.num_rows * file.metadata.num_columns),), np.uint8, str(path))
    return file.read()


def _name(key: str, feature: Row) -> str:
    return key.rsplit(".", 1)[-1] if feature["dtype"] in IMAGES else key.removeprefix(OBSERVATION)


def _numbers(column: pa.ChunkedArray, shape: tuple[int, ...], where: str) -> np.ndarray:
    check_size(shape, np.float32, where)
    flat = column.combine_chunks()
    while isinstance(flat, pa.ListArray | pa.FixedSizeListArray | pa.LargeListArray):
        flat = flat.flatten()
    if flat.null_count:
        raise DataError(f"{where}: values are missing.")
    values = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    if values.size != np.prod(shape):
        raise DataError(f"{where}: {values.size} numbers, {shape} expected.")
    return np.asarray(values.reshape(shape))


def _pictures(cells: list[Row], where: str) -> np.ndarray:
    """Images that lie in the table as PNG or JPEG files."""
    try:
        opened = [Image.open(io.BytesIO(cell["bytes"]), formats=["PNG", "JPEG"]) for cell in cells]
        deep = sorted({one.mode for one in opened} - set(MODES))
        if deep:
            raise DataError(
                f"{where}: images of {', '.join(deep)} are not read, only 8 bits a channel; remove the feature."
            )
        check_size((len(opened), *map(max, zip(*(one.size for one in opened), strict=True)), 3), np.uint8, where)
        return np.stack([np.asarray(image.convert("RGB")) for image in opened])
    except (OSError, ValueError, TypeError, KeyError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: an image can not be decoded ({error}).") from error


def _refuse_depth(feature: Row, where: str) -> None:
    """Raise DataError for a video of distances: its codes are no brightness, and have more than 8 bits."""
    said = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    if said.get("is_depth_map") or said.get("video.is_depth_map"):
        raise DataError(f"{where}: videos of depth are not read; remove the feature.")


def _video(path: Path, row: Row, key: str, where: str) -> np.ndarray:
    """The frames of one episode: the first at or after its first timestamp, and those that follow up to its last.

    A recorder that drops frames makes an episode's part of the file shorter; what follows is another episode.
    """
    start, count = float(row.get(f"videos/{key}/from_timestamp") or 0.0), int(row["length"])
    end, half = float(row.get(f"videos/{key}/to_timestamp") or math.inf), 0.5 / row["fps"]
    frames: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            check_size((count, stream.height, stream.width, 3), np.uint8, where)
            if stream.time_base is not None:
                container.seek(int(start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time is None or frame.time < start - half:
                    continue
                if frame.time >= end - half:
                    break
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    return np.stack(frames)
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{where}: {path.name} can not be decoded ({error}).") from error
    raise DataError(f"{where}: the video ends after {len(frames)} of {count} frames.")
