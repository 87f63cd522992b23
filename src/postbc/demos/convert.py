"""From the store to a LeRobotDataset v3 that stock LeRobot opens offline."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from postbc.demos.episode import Episode
from postbc.demos.frames import ENVIRONMENT, IMAGE, STATE
from postbc.progress import track
from postbc.storage.atomic import atomic_folder
from postbc.storage.manifest import write_manifest

Columns = dict[str, np.ndarray]  # by feature of the data set, (T, …)


def columns(episode: Episode, state: np.ndarray, environment: np.ndarray, pixels: np.ndarray | None) -> Columns:
    """What the data set holds of one episode; nothing is stored of a thing that is not observed (V = 0, no images)."""
    stored = {STATE: state, "action": episode.action, "next.reward": episode.reward[:, None]}
    stored |= {ENVIRONMENT: environment} if environment.shape[1] else {}
    stored |= {IMAGE: pixels} if pixels is not None else {}
    return {**stored, "next.success": episode.success[:, None]}


def _feature(values: np.ndarray) -> dict[str, Any]:
    if values.ndim == 4:
        return {"dtype": "image", "shape": values.shape[1:], "names": ["height", "width", "channels"]}
    return {"dtype": str(values.dtype), "shape": values.shape[1:], "names": None}


def _prepare_lerobot(home: str) -> None:
    """Settings that LeRobot and its dependencies read when they are imported: caches in ``home``, no network, quiet."""
    settings = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": home,
        "HF_LEROBOT_HOME": home,
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    os.environ.update(settings)
    # It logs a hundred lines when torchcodec finds no system ffmpeg; low-dimensional data needs neither.
    logging.getLogger("lerobot").setLevel(logging.ERROR)


def convert(episodes: Iterable[Columns], count: int, target: Path, fps: int, task: str) -> None:
    """Write ``count`` episodes as a LeRobotDataset at ``target``, whole or not at all; images as PNG.

    ``task`` is the instruction stored with every frame. LeRobot writes its parquet footers only at the end, so the
    data set is built under another name and renamed.
    """
    items = iter(track(episodes, "convert", count))
    first = next(items)
    features = {name: _feature(values) for name, values in first.items()}
    with tempfile.TemporaryDirectory() as home, atomic_folder(target) as building:
        _prepare_lerobot(home)
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        building.rmdir()  # create() insists on making the folder
        dataset = LeRobotDataset.create(f"postbc/{target.name}", fps, features, root=building, use_videos=False)
        for stored in chain([first], items):
            for values in zip(*stored.values(), strict=True):
                dataset.add_frame({**dict(zip(stored, values, strict=True)), "task": task})
            dataset.save_episode()
        dataset.finalize()
        shutil.rmtree(building / "images", ignore_errors=True)  # emptied: images lie in the parquet files
        write_manifest(building)
