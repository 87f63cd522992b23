"""What all tests share: no network, small thread pools, toy data."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from postbc.demos.convert import convert
from postbc.demos.episode import Episode
from postbc.demos.frames import Frames, load_frames

_connect = socket.socket.connect


def _loopback_only(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "localhost", "::1"):
        raise OSError(f"tests do not use the network, and something asked for {address}")
    return _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", _loopback_only)


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)  # two threads that wait for each other on a busy machine take longer than one


def toy_episode(number: int, length: int = 12) -> Episode:
    """A point that moves to a goal, observed with its goal; every episode has its own speed."""
    random = np.random.default_rng(number)
    goal = random.uniform(-1, 1, 2)
    position = np.linspace(0, 1, length)[:, None] * goal
    action = np.diff(position, axis=0, append=position[-1:]) + 0.01 * random.standard_normal((length, 2))
    success = np.arange(length) == length - 1
    obs = {"position": position.astype(np.float32), "goal": np.tile(goal, (length, 1)).astype(np.float32)}
    return Episode(action.astype(np.float32), obs, success.astype(np.float32), success, {"name": f"demo_{number}"})


def make_frames(episodes: list[Episode]) -> Frames:
    """Frames without a data set on disk."""
    lengths = torch.tensor([len(e) for e in episodes])
    number = torch.repeat_interleave(torch.arange(len(episodes)), lengths)
    return Frames(
        obs=torch.from_numpy(np.concatenate([np.hstack([e.obs["position"], e.obs["goal"]]) for e in episodes])),
        action=torch.from_numpy(np.concatenate([e.action for e in episodes])),
        episode=number,
        last=lengths.cumsum(0)[number] - 1,
        state_dim=2,
        fps=10,
        fingerprint="toy",
    )


@pytest.fixture
def frames() -> Frames:
    return make_frames([toy_episode(n) for n in range(6)])


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """A LeRobotDataset of toy episodes, made once: LeRobot takes long to import."""
    folder = tmp_path_factory.mktemp("toy") / "dataset"
    episodes = [toy_episode(n, 8 + n) for n in range(4)]
    convert(((e, (e.obs["position"], e.obs["goal"])) for e in episodes), folder, 10, "Go to the goal.")
    assert len(load_frames(folder)) == sum(map(len, episodes))
    return folder
