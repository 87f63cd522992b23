"""The reading process: it may be left, killed or orphaned."""

import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from recordings import write_npz, write_robomimic
from toy import toy_episode

from postbc.demos import isolation
from postbc.demos.readers import find_sources
from postbc.errors import DataError

ORPHAN = """
import os
from pathlib import Path
from postbc.demos import isolation
from postbc.demos.readers import find_sources
next(find_sources(Path({path!r}))[0].episodes())
print(isolation.__dict__["_idle"][0].child.process.pid if isolation.__dict__["_idle"] else 0, flush=True)
os._exit(1)
"""

COUNT = """
from pathlib import Path
from postbc.demos.readers import find_sources
print(len(list(find_sources(Path({path!r}))[0].episodes())))
"""


@pytest.fixture
def source(tmp_path):
    write_npz(tmp_path / "set", [toy_episode(n) for n in range(6)])
    return find_sources(tmp_path / "set")[0]


def lives(pid):
    """Whether there is such a process, and it is no zombie that waits to be buried."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def worker():
    """The process that waits for work."""
    (only,) = isolation._idle
    return only.child.process


def test_one_process_serves_all_and_what_is_left_does_not_come_back(source, tmp_path):
    write_robomimic(tmp_path / "demos.hdf5", [toy_episode(9)])
    isolation.close()
    assert len(list(source.episodes())) == 6
    pid = worker().pid
    for _ in range(3):
        left = source.episodes()
        next(left)
        left.close()
        (found,) = find_sources(tmp_path / "demos.hdf5")[0].episodes()
        assert np.array_equal(found.action, toy_episode(9).action)
    assert worker().pid == pid
    both = list(zip(source.episodes(), source.episodes(), strict=True))  # two at once are two processes
    assert all(np.array_equal(a.action, b.action) for a, b in both)
    assert len(isolation._idle) == 2
    isolation.close()


def test_a_process_that_dies_is_a_named_error_and_the_next_reading_works(tmp_path):
    write_npz(tmp_path / "set", [toy_episode(n, 20_000) for n in range(30)])  # more than a pipe holds
    (source,) = find_sources(tmp_path / "set")
    isolation.close()
    assert len(next(source.episodes())) == 20_000
    pid = worker().pid
    reading = source.episodes()
    next(reading)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"set: damaged so that the process that read it died"):
        list(reading)
    assert len(list(source.episodes())) == 30
    assert worker().pid != pid
    os.kill(worker().pid, signal.SIGKILL)  # while it waits: nobody's fault
    worker().wait()
    assert len(list(source.episodes())) == 30


def test_where_memory_is_limited_already_the_limit_stays(source):
    script = COUNT.format(path=str(source.path))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30)),
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("6", 0), done.stderr


def test_a_process_whose_owner_died_ends(source):
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN.format(path=str(source.path))], capture_output=True, text=True, check=False
    )
    pid = int(done.stdout)
    assert pid
    until = time.monotonic() + 20
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not lives(pid)
