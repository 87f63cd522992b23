"""Child processes on a leash: whatever ends this process ends them, with all that they started."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

GRACE_S = 10.0  # from SIGTERM to SIGKILL
_LEASH = Path(__file__).with_name("leash.py")


@contextlib.contextmanager
def leashed(
    command: Sequence[str],
    env: Mapping[str, str],
    output: IO[str] | int = subprocess.PIPE,
    grace_s: float = GRACE_S,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run ``command`` in a session of its own, standard error joined to output, and end it on leaving."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(_LEASH), str(grace_s), *command],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process, grace_s)
        if process.stdout is not None:
            process.stdout.close()


def end(process: subprocess.Popen[str], grace_s: float = GRACE_S) -> int:
    """End everything, wait until all is over and return the exit status."""
    let_go(process)
    try:
        return process.wait(grace_s + 5)
    except subprocess.TimeoutExpired:  # a leash that is stopped or stuck
        kill_group(process)
        return process.wait()


def let_go(process: subprocess.Popen[str]) -> None:
    """Tell the leash to end everything, and do not wait for it."""
    if process.stdin is not None:
        process.stdin.close()


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the whole process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
