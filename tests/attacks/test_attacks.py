"""Every attack is refused by a named error, soon, and within the memory that a reader may take."""

import multiprocessing
import resource
from pathlib import Path

import numcodecs
import pytest
from build import ATTACKS, PWNED, build

from postbc.demos.bounds import refuse_bomb
from postbc.errors import DataError

LIMIT, ROOM = 2**24, 2**27  # bytes that an array may have here, and that a process may grow by beside it
SECONDS = 60


def attacked(path, pipe):
    """Read what lies in ``path`` as its user would; sends (error's type, its words, bytes that the process grew by)."""
    import os

    import h5py  # noqa: F401 - what is imported does not count
    import zarr  # noqa: F401

    from postbc.compose import load_config
    from postbc.demos import bounds
    from postbc.demos.checks import Checker, Expected
    from postbc.demos.ingest import ingest
    from postbc.demos.readers import find_sources
    from postbc.policies.folder import load_policy

    bounds.EPISODE_BYTES = LIMIT
    os.chdir(path.parent)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
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
    pipe.send((*told, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)))


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
    with pytest.raises(DataError, match="packed by lzma"):
        refuse_bomb(b"", "lzma", 10, "here")


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["postbc.demos.ingest", "postbc.policies.folder", "postbc.compose"])
    return context


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(name, tmp_path, processes):
    path = build(tmp_path, name)
    before = {p for p in Path(tmp_path).rglob("*")}
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=attacked, args=(path, there))
    process.start()
    there.close()
    try:
        assert here.poll(SECONDS), "it hangs"
        kind, words, grown = here.recv()
    finally:
        process.kill()
        process.join()
    assert kind in ("DataError", "IntegrityError", "ConfigError"), words
    assert str(tmp_path) in words or name.startswith("yaml")
    assert grown < ROOM
    assert not (tmp_path / PWNED).exists()
    assert {p for p in tmp_path.rglob("*")} - before <= {tmp_path / "taken", tmp_path / "taken" / name}
