"""From the store to a LeRobotDataset v3 that stock LeRobot opens offline."""

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from postbc.demos.episode import Episode, Facts, common
from postbc.demos.frames import ENVIRONMENT, FEATURES, IMAGE, REWARD, SIDE, STATE, SUCCESS
from postbc.errors import DataError
from postbc.features import Features
from postbc.progress import track
from postbc.storage.atomic import atomic_folder, write_json
from postbc.storage.manifest import write_manifest

Recorded = Mapping[str, np.ndarray]  # observations (T, …) by key
Columns = dict[str, np.ndarray]  # by feature of the data set, (T, …)


@dataclass(frozen=True)
class View:
    """How a task sees recorded episodes: ``observe`` gives its states (T, S) and (T, V), ``images`` (T, h, w, C) or None."""

    fps: int
    instruction: str
    observe: Callable[[Recorded], tuple[np.ndarray, np.ndarray]]
    images: Callable[[Recorded], np.ndarray | None] = lambda _: None
    features: Features | None = None

    def columns(self, episode: Episode) -> Columns:
        """What the data set holds of an episode; nothing is stored of a thing that is not observed (V = 0, no images)."""
        (state, environment), pixels = self.observe(episode.obs), self.images(episode.obs)
        stored = {STATE: state, "action": episode.action, REWARD: episode.reward[:, None]}
        stored |= {ENVIRONMENT: environment} if environment.shape[1] else {}
        stored |= {IMAGE: pixels} if pixels is not None else {}
        return {**stored, SUCCESS: episode.success[:, None]}

    def names(self) -> dict[str, list[str]]:
        """By column, as LeRobot keeps them: without units."""
        if self.features is None:
            return {}
        named = {STATE: self.features.state, ENVIRONMENT: self.features.environment, "action": self.features.action}
        return {key: [one.name for one in part] for key, part in named.items()}


def _feature(key: str, values: np.ndarray, video: bool, names: list[str] | None) -> dict[str, Any]:
    if names is not None and len(names) != values.shape[1]:
        raise DataError(
            f"{key}: the episodes have {values.shape[1]} numbers, the task {len(names)} ({', '.join(names)})."
        )
    if values.ndim == 4:
        kind = "video" if video else "image"
        return {"dtype": kind, "shape": values.shape[1:], "names": ["height", "width", "channels"]}
    return {"dtype": str(values.dtype), "shape": values.shape[1:], "names": names}


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


@contextmanager
def _sparing_the_search_for_images(features: Mapping[str, Any]) -> Iterator[None]:
    """LeRobot maps over every frame to embed images, which takes four fifths of the time where there are none."""
    from lerobot.datasets import dataset_writer

    if any(feature["dtype"] == "image" for feature in features.values()):
        yield
    else:
        with patch.object(dataset_writer, "embed_images", lambda dataset: dataset):
            yield


def _describe(facts: list[Facts], features: Features | None) -> dict[str, Any]:
    """Names and units of the numbers, and what is known of the episodes; what is the same for all of them is said once."""
    shared = common(facts)
    own = [{k: v for k, v in one.items() if k not in shared} for one in facts]
    about = "What has no place in LeRobot's format: names with units, and what is known of the recorded episodes."
    named = None if features is None else features.json()
    return {
        "about": about,
        FEATURES: named,
        "all": shared,
        "episodes": [{"episode_index": i, **one} for i, one in enumerate(own)],
    }


def convert(episodes: Iterable[Episode], count: int, target: Path, view: View, video: bool = False) -> None:
    """Write ``count`` episodes as a LeRobotDataset at ``target``, whole or not at all; images as PNG, or as ``video``.

    The instruction stored with every frame is the episode's own, in its facts, or else the view's. Facts and whether an
    episode succeeded stand in postbc.json. LeRobot writes its parquet footers only at the end, so the data set is built
    under another name and renamed. Raises DataError where there is no episode.
    """
    items = iter(track(episodes, "convert", count))
    first = next(items, None)
    if first is None:
        raise DataError("there is no episode to convert.")
    names, known = view.names(), list[Facts]()
    features = {key: _feature(key, values, video, names.get(key)) for key, values in view.columns(first).items()}
    with tempfile.TemporaryDirectory() as home, atomic_folder(target) as building:
        _prepare_lerobot(home)
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        building.rmdir()  # create() insists on making the folder
        dataset = LeRobotDataset.create(
            f"postbc/{target.name}", view.fps, features, root=building, use_videos=video
        )  # streaming_encoding would drop frames whenever the encoder falls behind
        with _sparing_the_search_for_images(features):
            for episode in chain([first], items):
                stored, told = view.columns(episode), str(episode.facts.get("task") or view.instruction)
                for values in zip(*stored.values(), strict=True):
                    dataset.add_frame({**dict(zip(stored, values, strict=True)), "task": told})
                dataset.save_episode()
                known.append({**episode.facts, "success": bool(episode.success.any())})
            dataset.finalize()
        shutil.rmtree(building / "images", ignore_errors=True)  # emptied: images lie in the parquet files or the videos
        write_json(building / SIDE, _describe(known, view.features))
        write_manifest(building)
