"""Damaged recordings of every format: whole episodes or a named error, never anything else."""

import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import WRITERS, write_lerobot, write_minari
from toy import pictured, toy_episode

from postbc.demos import isolation
from postbc.demos.checks import Checker, Expected
from postbc.demos.episode import Episode
from postbc.demos.readers import find_sources
from postbc.errors import DataError

SIGNED = {toy_episode(n, 8).action.tobytes() for n in range(3)}  # a store is checked to the last bit
share = st.floats(0, 1, exclude_max=True)  # of a file's length, or of the number of files
OTHER_JSON = (b"{}", b"[]", b"null", b"3", b'{"fps": null}', b"[" * 100_000)


@st.composite
def damages(draw):
    """What becomes of a file's bytes; None for a file that is lost."""
    kind = draw(st.sampled_from(["flipped", "blanked", "cut", "replaced", "lost"]))
    if kind == "flipped":
        flips = draw(st.lists(st.tuples(share, st.integers(0, 7)), min_size=1, max_size=4))
        return lambda data: _flipped(data, flips)
    if kind == "blanked":
        at, size = draw(share), draw(st.integers(1, 64))
        return lambda data: data[: int(at * len(data))] + bytes(size) + data[int(at * len(data)) + size :]
    if kind == "cut":
        at = draw(share)
        return lambda data: data[: int(at * len(data))]
    if kind == "replaced":
        other = draw(st.one_of(st.binary(max_size=64), st.sampled_from(OTHER_JSON)))
        return lambda _: other
    return None


def _flipped(data, flips):
    changed = bytearray(data)
    for at, bit in flips:
        changed[int(at * len(data))] ^= 1 << bit
    return bytes(changed)


PICTURED = {
    "minari_jpeg": write_minari,
    "lerobot_png": write_lerobot,
    "lerobot_video": partial(write_lerobot, video=True),
}


@pytest.fixture(scope="module", params=[*WRITERS, *PICTURED])
def whole(request, tmp_path_factory):
    """A recording of each format; LeRobot takes long to write one."""
    path = tmp_path_factory.mktemp("whole") / request.param
    if request.param in PICTURED:
        PICTURED[request.param](path, [pictured(n, 8) for n in range(3)])
    else:
        WRITERS[request.param](path, [toy_episode(n, 8) for n in range(3)])
    return path


@pytest.fixture(scope="module", autouse=True)
def little_patience():
    """HDF5's library loops for ever on some of these."""
    before, isolation.SECONDS = isolation.SECONDS, 5
    yield
    isolation.SECONDS = before


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(which=share, damage=damages())
def test_damage_is_named(whole, which, damage):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / whole.name
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, path)
        files = sorted(p for p in [path, *path.rglob("*")] if p.is_file())
        file = files[int(which * len(files))]
        if damage is None:
            file.unlink()
        elif file.stat().st_size:
            file.write_bytes(damage(file.read_bytes()))
        checker = Checker(Expected(10))
        try:
            for source in find_sources(Path(folder)):
                for episode in source.episodes():
                    assert isinstance(episode, Episode)
                    assert whole.name != "store" or episode.action.tobytes() in SIGNED
                    checker.add(episode, "here")  # looked at by everything that an ingest does
            checker.finish()
        except DataError as error:
            assert folder in str(error)
