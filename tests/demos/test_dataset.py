import logging
import os
import warnings
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from toy import TOY_VIEW, pictured, toy_episode

from postbc.demos.convert import convert
from postbc.demos.frames import load_frames
from postbc.errors import DataError, IntegrityError
from postbc.storage.atomic import read_json


def test_stock_lerobot_opens_the_dataset_offline_with_the_same_values(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(os.environ, "HF_HOME", str(tmp_path))
    logging.getLogger("lerobot").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        opened = LeRobotDataset("postbc/dataset", root=dataset)
        rows = [opened[i] for i in range(len(opened))]
    episodes = [toy_episode(n, 8 + n) for n in range(4)]
    assert opened.num_episodes == 4
    expected = {
        "action": [e.action for e in episodes],
        "observation.state": [e.obs["position"] for e in episodes],
        "observation.environment_state": [e.obs["goal"] for e in episodes],
    }
    for key, values in expected.items():
        assert np.array_equal(torch.stack([row[key] for row in rows]).numpy(), np.concatenate(values))
    assert {row["task"] for row in rows} == {"Go to the goal."}
    assert sum(bool(row["next.success"]) for row in rows) == 4


def test_rewards_and_success_come_with_the_frames(dataset):
    frames = load_frames(dataset)
    ends = frames.last.unique()
    assert torch.equal(torch.nonzero(frames.success).flatten(), ends)
    assert torch.equal(frames.reward, frames.success.float())


def test_chunks_repeat_the_last_action_of_their_episode(dataset):
    frames = load_frames(dataset)
    chunk = frames.chunks(torch.tensor([0, 6]), 4)
    assert torch.equal(chunk[0], frames.action[:4])
    assert torch.equal(chunk[1], frames.action[[6, 7, 7, 7]])  # the first episode has 8 frames
    assert frames.episodes == 4
    assert torch.equal(frames.last.unique(), torch.tensor([7, 16, 26, 37]))


def test_a_state_and_an_action_of_one_number_come_back(tmp_path):
    episode = toy_episode(0)
    narrow = replace(episode, action=episode.action[:, :1], obs={k: v[:, :1] for k, v in episode.obs.items()})
    convert(iter([narrow]), 1, tmp_path / "set", TOY_VIEW)
    frames = load_frames(tmp_path / "set")
    assert np.array_equal(frames.action, narrow.action)
    assert np.array_equal(frames.obs, np.concatenate([narrow.obs["position"], narrow.obs["goal"]], axis=1))


def test_an_altered_dataset_is_refused(dataset, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    file = next((copy / "data").rglob("*.parquet"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match="parquet"):
        load_frames(copy)


def stock(folder, monkeypatch, tmp_path):
    """Opened by LeRobot, offline."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(os.environ, "HF_HOME", str(tmp_path / "home"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        opened = LeRobotDataset("postbc/set", root=folder)
        return opened, [opened[i] for i in range(len(opened))]


@pytest.mark.parametrize("video", [False, True])
def test_images_and_statistics_are_what_was_recorded(tmp_path, monkeypatch, video):
    episodes = [pictured(n, 12) for n in range(3)]
    convert(iter(episodes), 3, tmp_path / "set", TOY_VIEW, video)
    opened, rows = stock(tmp_path / "set", monkeypatch, tmp_path)
    assert opened.meta.features["observation.image"]["dtype"] == ("video" if video else "image")
    seen = torch.stack([row["observation.image"] for row in rows]).permute(0, 2, 3, 1).numpy()
    wanted = np.concatenate([e.obs["top"] for e in episodes]) / 255
    assert np.abs(seen - wanted).mean() < (0.01 if video else 1e-6)  # the video's codec loses a little
    low = {"action": "action", "observation.state": "position", "observation.environment_state": "goal"}
    for key, name in low.items():
        values = np.concatenate([e.action if name == "action" else e.obs[name] for e in episodes])
        assert np.array_equal(torch.stack([row[key] for row in rows]).numpy(), values)
        told = opened.meta.stats[key]
        for word, found in {
            "min": values.min(0),
            "max": values.max(0),
            "mean": values.mean(0),
            "std": values.std(0),
        }.items():
            assert np.allclose(told[word], found, atol=1e-5), (key, word)
        assert told["count"] == len(values)
    if video:
        with pytest.raises(DataError, match="as video"):
            load_frames(tmp_path / "set")
    else:
        assert load_frames(tmp_path / "set").shape.pixels == (3, *wanted.shape[1:3])


def test_what_is_known_of_episodes_goes_with_them(tmp_path, monkeypatch):
    facts = {"source": "a.hdf5", "env_args": "{}"}
    episodes = [
        replace(toy_episode(n), facts={"name": f"demo_{n}", "operator": "ab"[n % 2], **facts}) for n in range(3)
    ]
    episodes[1] = replace(episodes[1], facts={**episodes[1].facts, "task": "Go home."})
    episodes[2] = replace(episodes[2], success=episodes[2].success & False)
    convert(iter(episodes), 3, tmp_path / "set", TOY_VIEW)
    side = read_json(tmp_path / "set" / "postbc.json")
    assert side["all"] == facts
    assert side["episodes"][1] == {
        "episode_index": 1, "name": "demo_1", "operator": "b", "success": True, "task": "Go home.",
    }  # fmt: skip
    assert [one["success"] for one in side["episodes"]] == [True, True, False]
    _, rows = stock(tmp_path / "set", monkeypatch, tmp_path)
    told = [row["task"] for row in rows]
    assert told == ["Go to the goal."] * 12 + ["Go home."] * 12 + ["Go to the goal."] * 12


def test_sparing_lerobot_the_search_for_images_changes_no_value(tmp_path, monkeypatch):
    """What LeRobot's own loop writes of the same frames."""
    episodes = [toy_episode(n) for n in range(3)]
    convert(iter(episodes), 3, tmp_path / "ours", TOY_VIEW)
    monkeypatch.setattr("postbc.demos.convert._sparing_the_search_for_images", lambda _: nullcontext())
    convert(iter(episodes), 3, tmp_path / "theirs", TOY_VIEW)
    ours, theirs = (pq.read_table(next((tmp_path / n / "data").rglob("*.parquet"))) for n in ("ours", "theirs"))
    assert ours.equals(theirs)
    assert (tmp_path / "ours/meta/stats.json").read_bytes() == (tmp_path / "theirs/meta/stats.json").read_bytes()
    with pytest.raises(DataError, match="no episode"):
        convert(iter([]), 0, tmp_path / "none", TOY_VIEW)


def test_images_beyond_the_memory_stay_on_the_disk_and_are_the_same(tmp_path, monkeypatch):
    convert(iter([pictured(n, 12) for n in range(3)]), 3, tmp_path / "set", TOY_VIEW)
    monkeypatch.chdir(tmp_path)
    kept = load_frames(tmp_path / "set", 2)
    assert not (tmp_path / ".work").exists()
    mapped = load_frames(tmp_path / "set", 2, image_memory=0)
    (file,) = (tmp_path / ".work/images").iterdir()
    written = file.stat().st_mtime_ns
    index = torch.tensor([0, 5, 12, 35, 5])
    assert mapped.pixels.mapped
    assert not kept.pixels.mapped
    assert torch.equal(mapped.rows(index), kept.rows(index))
    some = torch.tensor([0, 2])
    assert torch.equal(mapped.select(some).rows(index[:3]), kept.select(some).rows(index[:3]))
    assert mapped.select(some).pixels.images is mapped.pixels.images  # not copied
    assert torch.equal(load_frames(tmp_path / "set", 2, 0).rows(index), kept.rows(index))
    assert file.stat().st_mtime_ns == written
    np.save(file, np.zeros((1, 3, 4, 4), np.uint8))
    with pytest.raises(DataError, match="delete it"):
        load_frames(tmp_path / "set", 2, 0)
