import logging
import os
import warnings

import numpy as np
import pytest
import torch
from toy import toy_episode

from postbc.demos.frames import load_frames
from postbc.errors import IntegrityError


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
