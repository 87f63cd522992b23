"""A command on a leash ends with its starter, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.processes import leashed

SHELL = "(setsid sleep 300 & echo $!); sleep 300 & echo $!; trap '' TERM; echo $$; while true; do sleep 1; done"
STARTER = f"""
import sys, time
from flows.processes import leashed
with leashed(["sh", "-c", {SHELL!r}], dict(__import__("os").environ)) as process:
    for _ in range(3):
        print(process.stdout.readline(), end="", flush=True)
    time.sleep(300)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_until_dead(pids, seconds):
    deadline = time.monotonic() + seconds
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(_alive, pids))


def test_leaving_the_block_ends_all_even_what_ignores_sigterm_or_left_the_group():
    with leashed(["sh", "-c", SHELL], dict(os.environ), grace_s=0.3) as process:
        pids = [int(process.stdout.readline()) for _ in range(3)]
        assert all(map(_alive, pids))
    assert process.returncode == 128 + signal.SIGTERM
    assert _wait_until_dead(pids, 0.5)


def test_a_killed_starter_takes_its_command_along():
    root = Path(__file__).resolve().parents[2]
    code = STARTER.replace("environ)) as", "environ), grace_s=0.3) as")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root) as starter:
        pids = [int(starter.stdout.readline()) for _ in range(3)]
        starter.kill()
    assert _wait_until_dead(pids, 5)


def test_exit_status_and_output_pass_through_and_strays_are_ended():
    with leashed(["sh", "-c", "sleep 300 & echo $!; echo oops >&2; exit 7"], dict(os.environ)) as process:
        stray, line = process.stdout.read().splitlines()
        assert (process.wait(), line) == (7, "oops")
    assert not _alive(stray)
