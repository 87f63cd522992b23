"""Episodes between processes: what was sent arrives, and a sender that lies is found out and runs nothing."""

import json
import pickle
import threading
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
from toy import pictured

from postbc.demos import wire
from postbc.errors import DataError, IntegrityError


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def passed(send):
    """What arrives of what ``send`` puts into a pipe."""
    here, there = Pipe()

    def sent():
        with there, suppress(BrokenPipeError):  # whoever receives may have heard enough
            send(there)

    thread = threading.Thread(target=sent)
    thread.start()
    try:
        return wire.receive(here)
    finally:
        here.close()
        thread.join()


def test_an_episode_arrives_as_it_was_and_can_be_written_to():
    episode = replace(
        pictured(0, 5), timestamp=np.arange(5) / 10, facts={"name": "é", "fps": 10.0, "n": 3, "friction": float("nan")}
    )
    episode.obs["big_endian"] = np.arange(10, dtype=">f4").reshape(5, 2)
    episode.obs["none"] = np.zeros((5, 0), np.float32)
    episode.obs["strided"] = np.arange(20, dtype=np.float32).reshape(5, 4)[:, ::2]
    found = passed(lambda pipe: wire.send(pipe, episode))
    assert str(found.facts) == str(episode.facts)
    for key, values in episode.arrays().items():
        arrived = found.arrays()[key]
        assert (arrived.dtype, arrived.shape) == (values.dtype, values.shape)
        assert np.array_equal(arrived, values)
        arrived[...] = 0
    assert np.array_equal(found.timestamp, episode.timestamp)


def test_errors_and_the_end_arrive():
    assert passed(lambda pipe: wire.send(pipe, None)) is None
    for kind in (DataError, IntegrityError):
        found = passed(lambda pipe, kind=kind: wire.send(pipe, kind("words")))
        assert (type(found), str(found)) == (kind, "words")


ONE = {"facts": {}, "arrays": [["action", "<f4", [2, 1]]]}


@pytest.mark.parametrize(
    "messages",
    [
        [b"nonsense"], [b"[1]"], [b'{"facts": {}}'], [json.dumps(ONE).encode(), b"1234"],
        [json.dumps(ONE).encode(), bytes(8)],  # no reward
        [json.dumps({**ONE, "arrays": [["action", "|O", [1]]]}).encode(), bytes(8)],
        [json.dumps({**ONE, "arrays": [["action", "<f4", [2**40]]]}).encode()],
        [json.dumps({**ONE, "arrays": [["action", "<f4", [-1, 2]]]}).encode()],
        [json.dumps({**ONE, "arrays": [["action", "<f4", [1]]]}).encode(), bytes(64)],
    ],
)  # fmt: skip
def test_a_sender_that_lies_is_found_out(messages):
    with pytest.raises(DataError):
        passed(lambda pipe: [pipe.send_bytes(message) for message in messages])


def test_what_is_pickled_is_not_unpickled(tmp_path):
    with pytest.raises(DataError):
        passed(lambda pipe: pipe.send_bytes(pickle.dumps(Payload(tmp_path / "pwned"))))
    assert not (tmp_path / "pwned").exists()
