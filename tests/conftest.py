"""What all tests share: no network, small thread pools, toy data."""

import os
import signal
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from toy import TOY_VIEW, make_frames, toy_episode

from postbc.demos.convert import convert
from postbc.demos.frames import Frames, load_frames

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the stages that tests start: workers share the cores
# The same examples every time, and none fails for how long it took.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
_connect = socket.socket.connect
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # tests press Ctrl-C, also where they run in the background of a script


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


@pytest.fixture
def frames() -> Frames:
    return make_frames([toy_episode(n) for n in range(6)])


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """A LeRobotDataset of toy episodes, made once: LeRobot takes long to import."""
    folder = tmp_path_factory.mktemp("toy") / "dataset"
    episodes = [toy_episode(n, 8 + n) for n in range(4)]
    convert(episodes, len(episodes), folder, TOY_VIEW)
    assert len(load_frames(folder)) == sum(map(len, episodes))
    return folder
