"""The same toy episodes in every format that is read, written by the libraries where they are at hand."""

import json
import os
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from postbc.demos.checks import Checker, Expected
from postbc.demos.store import commit, write_segment

TASK, FPS = "Go to the goal.", 10


def at(fps):
    """Checks of recordings for a task that runs at ``fps``."""
    return Checker(Expected(fps))


def write_robomimic(path, episodes):
    with h5py.File(path, "w") as file:
        for number, episode in enumerate(episodes):
            demo = file.create_group(f"data/demo_{number}")
            demo.attrs["operator"] = "somebody"
            demo["actions"], demo["rewards"] = episode.action, episode.reward
            for key, values in episode.obs.items():
                demo[f"obs/{key}"] = values


def write_diffusion_policy(path, episodes):
    root = zarr.open_group(path, mode="w", zarr_format=2)
    arrays = {"action": [e.action for e in episodes]} | {k: [e.obs[k] for e in episodes] for k in episodes[0].obs}
    for key, values in arrays.items():
        root.create_array(f"data/{key}", data=np.concatenate(values))
    root.create_array("meta/episode_ends", data=np.cumsum([len(e) for e in episodes]))


def write_zipped(path, episodes):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "replay.zarr"
        write_diffusion_policy(folder, episodes)
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(folder))


def write_npz(path, episodes):
    path.mkdir()
    keys = {"action": "act", "reward": "r", "success": "done", **{f"obs/{k}": k for k in episodes[0].obs}}
    (path / "episodes.json").write_text(json.dumps({"fps": FPS, "task": TASK, "keys": keys}))
    for number, e in enumerate(episodes):
        np.savez_compressed(path / f"{number:03d}.npz", act=e.action, r=e.reward, done=e.success, **e.obs)


def write_minari(path, episodes):
    """By Minari's own writer."""
    os.environ["MINARI_DATASETS_PATH"] = str(path.parent / "unused")
    import gymnasium as gym
    import minari
    from minari.data_collector import EpisodeBuffer

    def space(values):
        if values.ndim == 4:
            return gym.spaces.Box(0, 255, values.shape[1:], np.uint8)
        return gym.spaces.Box(-np.inf, np.inf, values.shape[1:], np.float32)

    first = episodes[0]
    buffers = [
        EpisodeBuffer(
            id=None, observations={k: np.concatenate([v, v[-1:]]) for k, v in e.obs.items()}, actions=e.action,
            rewards=e.reward, terminations=e.success, truncations=np.zeros(len(e), bool),
            infos={"success": np.concatenate([[False], e.success])},
        )
        for e in episodes
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for authors and links
        dataset = minari.create_dataset_from_buffers(
            "toy/goal-v0", buffers, observation_space=gym.spaces.Dict({k: space(v) for k, v in first.obs.items()}),
            action_space=space(first.action), data_format="hdf5",
        )  # fmt: skip
    dataset.storage.data_path.parent.rename(path)


def features_of(episode, video):
    """LeRobot's description of what an episode holds."""
    shown = {f"observation.{'images.' if v.ndim == 4 else ''}{k}": v for k, v in episode.obs.items()}
    columns = {**shown, "action": episode.action}
    columns |= {"next.reward": episode.reward[:, None], "next.success": episode.success[:, None]}
    kinds = {k: ("video" if video else "image") if v.ndim == 4 else str(v.dtype) for k, v in columns.items()}
    named = ["height", "width", "channels"]
    return columns, {
        k: {"dtype": kinds[k], "shape": v.shape[1:], "names": named if v.ndim == 4 else None}
        for k, v in columns.items()
    }


def write_lerobot(path, episodes, video=False):
    """By LeRobot itself, version 3.0."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = features_of(episodes[0], video)[1]
    dataset = LeRobotDataset.create("toy/goal", FPS, features, root=path, use_videos=video)
    for episode in episodes:
        columns = features_of(episode, video)[0]
        for values in zip(*columns.values(), strict=True):
            dataset.add_frame({**dict(zip(columns, values, strict=True)), "task": TASK})
        dataset.save_episode()
    dataset.finalize()


def write_lerobot_v21(path, episodes):
    """As version 2.1 lays it out; a test has LeRobot's converter read it."""
    (path / "meta").mkdir(parents=True)
    (path / "data" / "chunk-000").mkdir(parents=True)
    columns, features = features_of(episodes[0], True)
    videos = [key for key, feature in features.items() if feature["dtype"] == "video"]
    counted = ("frame_index", "episode_index", "index", "task_index")
    features = {k: {**v, "shape": list(v["shape"])} for k, v in features.items()}
    features |= {k: {"dtype": "int64", "shape": [1], "names": None} for k in counted}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    rows, stats, start = [], [], 0
    for number, episode in enumerate(episodes):
        columns, count = features_of(episode, True)[0], len(episode)
        if videos:
            with tempfile.TemporaryDirectory() as scratch:  # LeRobot's encoder; one file an episode
                write_lerobot(Path(scratch) / "one", [episode], video=True)
                for key in videos:
                    file = path / f"videos/chunk-000/{key}/episode_{number:06d}.mp4"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(next((Path(scratch) / "one" / "videos" / key).rglob("*.mp4")).read_bytes())
                    del columns[key]
        frames = np.arange(count)
        counts = {"frame_index": frames, "episode_index": frames * 0 + number, "index": frames + start}
        counts |= {"task_index": frames * 0}
        own = {k: v.astype(np.int64) for k, v in counts.items()} | {"timestamp": (frames / FPS).astype(np.float32)}
        listed = {k: list(v) if v.shape[1] > 1 else v[:, 0] for k, v in columns.items()}
        pq.write_table(pa.table({**listed, **own}), path / f"data/chunk-000/episode_{number:06d}.parquet")
        rows.append({"episode_index": number, "tasks": [TASK], "length": count})
        stats.append({"episode_index": number, "stats": {k: _stats(v) for k, v in {**columns, **own}.items()}})
        start += count
    info = {
        "codebase_version": "v2.1", "robot_type": None, "total_episodes": len(episodes), "total_frames": start,
        "total_tasks": 1, "total_videos": 0, "total_chunks": 1, "chunks_size": 1000, "fps": FPS,
        "splits": {"train": f"0:{len(episodes)}"}, "features": features,
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4" if videos else None,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    }  # fmt: skip
    (path / "meta" / "info.json").write_text(json.dumps(info))
    for name, lines in (("episodes", rows), ("episodes_stats", stats), ("tasks", [{"task_index": 0, "task": TASK}])):
        (path / "meta" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _stats(values):
    values = values.reshape(len(values), -1).astype(np.float64)
    found = {k: getattr(values, k)(0).tolist() for k in ("min", "max", "mean", "std")}
    return {**found, "count": [len(values)]}


def write_store(path, episodes):
    write_segment(path, "a", episodes[:2], FPS)
    if len(episodes) > 2:
        write_segment(path, "b", episodes[2:], FPS)
    commit(path, ["a", "b"][: 1 + (len(episodes) > 2)])


WRITERS = {
    "demos.hdf5": write_robomimic,
    "replay.zarr": write_diffusion_policy,
    "replay.zarr.zip": write_zipped,
    "npz": write_npz,
    "minari": write_minari,
    "lerobot": write_lerobot,
    "lerobot_v21": write_lerobot_v21,
    "store": write_store,
}
