"""From the store to a LeRobotDataset v3 that stock LeRobot opens offline."""

import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from postbc.demos.episode import Episode
from postbc.progress import track
from postbc.storage.atomic import atomic_folder
from postbc.storage.manifest import write_manifest

Observed = tuple[np.ndarray, np.ndarray]  # observation.state (T, S) and observation.environment_state (T, V)


def _features(state: int, environment: int, action: int) -> dict[str, dict[str, Any]]:
    def vector(size: int) -> dict[str, Any]:
        return {"dtype": "float32", "shape": (size,), "names": None}

    return {
        "observation.state": vector(state),
        "observation.environment_state": vector(environment),
        "action": vector(action),
        "next.reward": vector(1),
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    }


def _episode_buffer(episode: Episode, observed: Observed, number: int, fps: int, task: str) -> dict[str, Any]:
    length = len(episode)
    frames = np.arange(length)
    return {
        "size": length,
        "task": [task] * length,
        "episode_index": number,
        "frame_index": frames,
        "timestamp": (frames / fps).astype(np.float32),
        "index": [],
        "task_index": [],
        "observation.state": observed[0],
        "observation.environment_state": observed[1],
        "action": episode.action,
        "next.reward": episode.reward[:, None],
        "next.success": episode.success[:, None],
    }


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


def convert(episodes: Iterable[tuple[Episode, Observed]], target: Path, fps: int, task: str) -> None:
    """Write ``episodes`` with their observations as a LeRobotDataset at ``target``, whole or not at all.

    ``task`` is the instruction stored with every frame. LeRobot writes its parquet footers only at the end, so the
    data set is built under another name and renamed.
    """
    items = list(episodes)
    _, (state, environment) = items[0]
    features = _features(state.shape[1], environment.shape[1], items[0][0].action.shape[1])
    with tempfile.TemporaryDirectory() as home, atomic_folder(target) as building:
        _prepare_lerobot(home)
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        building.rmdir()  # create() insists on making the folder
        dataset = LeRobotDataset.create(f"postbc/{target.name}", fps, features, root=building, use_videos=False)
        for number, (episode, observed) in enumerate(track(items, "convert", len(items))):
            dataset.save_episode(episode_data=_episode_buffer(episode, observed, number, fps, task))
        dataset.finalize()
        write_manifest(building)
