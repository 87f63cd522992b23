"""Every attack is refused by a named error, soon, and within the memory that a reader may take."""

import multiprocessing
import os
import resource
import sys
import zlib

import numcodecs
import numpy as np
import pytest
from build import ATTACKS, PWNED, build
from recordings import write_lerobot_v21
from toy import toy_episode

from postbc.demos.bounds import refuse_bomb
from postbc.errors import DataError

LIMIT, ROOM = 2**24, 2**27  # bytes that an array may have here, and that the processes may grow by beside it
SECONDS = 60


def attacked(path, pipe):
    """Read what lies in ``path`` as its user would; sends (error's type, its words, bytes that processes grew to)."""
    from postbc.compose import load_config
    from postbc.demos import bounds, isolation
    from postbc.demos.checks import Checker, Expected
    from postbc.demos.ingest import ingest
    from postbc.demos.readers import find_sources
    from postbc.policies.folder import load_policy

    bounds.EPISODE_BYTES = LIMIT
    os.chdir(path.parent)
    try:
        if (path / "params.yaml").exists():
            load_config(path)
        elif (path / "model.safetensors").exists():
            load_policy(path)
        else:
            ingest(find_sources(path), path.parent / "taken" / path.name, Checker(Expected(10)))
        told = ("nothing", "it was taken")
    except Exception as error:
        told = (type(error).__name__, str(error))
    isolation.close()  # what has ended is counted
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    pipe.send((*told, (1 if sys.platform == "darwin" else 1024) * np.array(peaks)))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("zlib", numcodecs.Zlib(9)), ("gzip", numcodecs.GZip(9)), ("zstd", numcodecs.Zstd(9)), ("lz4", numcodecs.LZ4()),
        ("blosc", numcodecs.Blosc()), (None, None),
    ],
)  # fmt: skip
def test_what_a_chunk_unpacks_to_is_known_before(name, codec):
    for size in (2**8, 2**16 + 7, 2**20):
        data = codec.encode(bytes(size)) if codec else bytes(size)
        refuse_bomb(data, name, size, "here")
        with pytest.raises(DataError, match="here: unpacks"):
            refuse_bomb(data, name, size // 2, "here")
    with pytest.raises(DataError, match="here: unpacks"):
        refuse_bomb(zlib.compress(bytes(9), 9, 31) + zlib.compress(bytes(2**20), 9, 31), "gzip", 2**10, "here")
    with pytest.raises(DataError, match="packed by lzma"):
        refuse_bomb(b"", "lzma", 10, "here")


@pytest.fixture(scope="module")
def outcome():
    """Reads a path in a process of its own: (error's type, its words, peaks)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["postbc.demos.ingest", "postbc.policies.folder", "postbc.compose"])

    def read(path):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=attacked, args=(path, there))
        process.start()
        there.close()
        try:
            assert here.poll(SECONDS), "it hangs"
            return here.recv()
        finally:
            process.kill()
            process.join()

    return read


@pytest.fixture(scope="module")
def usual(outcome, tmp_path_factory):
    """Peaks of the processes when nothing is wrong."""
    folder = tmp_path_factory.mktemp("good")
    write_lerobot_v21(folder / "set", [toy_episode(n) for n in range(3)])
    kind, words, peaks = outcome(folder / "set")
    assert kind == "nothing", words
    return peaks


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(name, tmp_path, outcome, usual):
    path = build(tmp_path, name)
    before = set(tmp_path.rglob("*"))
    kind, words, peaks = outcome(path)
    assert kind in ("DataError", "IntegrityError", "ConfigError"), words
    assert str(tmp_path) in words or name.startswith("yaml")
    assert (peaks - usual < ROOM).all()
    assert not (tmp_path / PWNED).exists()
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "taken", tmp_path / "taken" / name}
