"""An ingest that is killed, has no room or may not write: the store is the old one or the new one, never something else."""

import ctypes
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import at, write_npz
from toy import toy_episode

from postbc.demos import ingest as module
from postbc.demos.readers import find_sources
from postbc.demos.store import read_store
from postbc.errors import DataError

KILLS = 100
ROOT = Path(__file__).resolve().parents[2]
CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24
SERVER = """
import os, signal, sys, traceback
from pathlib import Path
sys.path[:0] = {path!r}
from recordings import at
from postbc.demos import ingest as module, isolation
from postbc.demos.readers import find_sources
isolation.read = lambda reader, *where: reader.read(*where)  # it takes longer to start than the store to write
module.SEGMENT_BYTES = 2_000  # many small segments
for line in sys.stdin:
    source, store, seconds = line.split()
    source, store = Path(source), Path(store)
    pid = os.fork()  # a kill costs no start of Python
    if pid == 0:
        signal.setitimer(signal.ITIMER_PROF, float(seconds))  # it is killed by its own time, whatever the machine does
        try:
            module.ingest(find_sources(source), store, at(10))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status, used = os.wait4(pid, 0)
    print(status, used.ru_utime + used.ru_stime, flush=True)
"""
STAGE = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from recordings import at
from stages.running import arguments, run
from postbc.demos.ingest import ingest
from postbc.demos.readers import find_sources
sources = find_sources(Path({source!r}))
run(lambda *_: ingest(sources, Path({store!r}), at(10)), arguments("", False))
"""


def contents(store):
    """By path; not what was given up, whose name begins with a dot: Zarr's threads may still write into it."""
    found = (p for p in store.rglob("*") if p.is_file())
    return {p.relative_to(store): p.read_bytes() for p in found if not p.relative_to(store).parts[0].startswith(".")}


def episodes(store):
    """What a store holds; None before its first commit."""
    return [e.action.tobytes() for e in read_store(store)] if (store / "store.json").exists() else None


def test_killed_at_any_moment_it_leaves_the_old_store_and_goes_on(tmp_path):
    chance = random.Random(0)  # noqa: S311 - moments, no secret
    for name, count in (("old", 2), ("new", 5)):
        write_npz(tmp_path / name, [toy_episode(n, 20) for n in range(count)])
    script = SERVER.format(path=[str(ROOT), str(ROOT / "tests")])
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as server:

        def ingested(source, store, seconds=0.0):
            """Whether an ingest ended by itself, and how many seconds it used; it is killed when it has used ``seconds``."""
            server.stdin.write(f"{tmp_path / source} {store} {seconds}\n")
            status, used = server.stdout.readline().split()
            assert int(status) in (0, signal.SIGPROF)
            return status == "0", float(used)

        wholes, seconds = {}, 0.0
        for name in ("old", "new"):
            ended, seconds = ingested(name, tmp_path / f"whole_{name}")
            assert ended
            wholes[name] = episodes(tmp_path / f"whole_{name}")
        kills = finished = half = 0
        store = tmp_path / "store0"
        while kills < KILLS:
            source = "old" if episodes(store) is None else "new"
            ended, _ = ingested(source, store, chance.uniform(1e-3, seconds))
            found = episodes(store)
            assert found in (None, wholes["old"], wholes["new"])
            if ended and source == "new":
                assert contents(store) == contents(tmp_path / "whole_new")
                finished += 1
                store = tmp_path / f"store{finished}"
            elif not ended:
                kills += 1
                half += store.exists() and any(p.name.startswith(".") for p in store.iterdir())
        server.stdin.close()
    assert half > KILLS / 4  # so many were killed while they wrote


def without_privileges():
    """Root may write anywhere; take that from it, as of the next exec."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)


def little_room():
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))


@pytest.mark.parametrize(
    ("refuse", "words"), [(without_privileges, "Permission denied"), (little_room, "File too large")]
)
def test_where_nothing_can_be_written_the_old_store_stays(tmp_path, refuse, words):
    source, store = tmp_path / "source", tmp_path / "store"
    write_npz(source, [toy_episode(n, 20) for n in range(3)])
    module.ingest(find_sources(source), store, at(10))
    before = contents(store)
    write_npz(tmp_path / "more", [toy_episode(n, 20) for n in range(4, 9)])
    store.chmod(0o555)
    script = STAGE.format(path=[str(ROOT), str(ROOT / "tests")], source=str(tmp_path / "more"), store=str(store))
    try:
        if refuse is little_room:
            store.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, preexec_fn=refuse, capture_output=True, text=True, check=False
        )
    finally:
        store.chmod(0o755)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert contents(store) == before


def test_a_bad_recording_leaves_the_old_store(tmp_path):
    write_npz(tmp_path / "source", [toy_episode(n, 20) for n in range(3)])
    module.ingest(find_sources(tmp_path / "source"), tmp_path / "store", at(10))
    before = contents(tmp_path / "store")
    (tmp_path / "source" / "001.npz").write_bytes(b"")
    with pytest.raises(DataError, match="001"):
        module.ingest(find_sources(tmp_path / "source"), tmp_path / "store", at(10))
    assert contents(tmp_path / "store") == before
