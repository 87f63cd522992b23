"""Runs a command so that it cannot outlive whoever started it: ``python leash.py GRACE_S COMMAND...``.

The starter keeps the other end of this process's standard input. When that end closes, because the starter
closed it or because the starter died by whatever cause, everything that the command has started is ended:
SIGTERM, then SIGKILL after GRACE_S seconds. The same happens on SIGTERM, and to what a command leaves behind
when it ends by itself.

On Linux this process adopts orphans (a child subreaper), so it also finds processes that left its process
group, and the command is killed if this process is. Elsewhere the process group is all there is. Standard
library only: it starts quickly and stays small beside every stage.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_POLL_S = 0.05
_LINUX = sys.platform == "linux"


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch_starter(let_go: threading.Event) -> None:
    """Wait for the end of standard input."""
    while os.read(0, 1024):
        pass
    let_go.set()


def descendants(ancestor: int) -> list[int]:
    """Living processes that ``ancestor`` started, directly or not, as far as /proc tells."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            # the command's name may hold spaces and brackets: the fields begin after the last bracket
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if state != "Z":
                children.setdefault(int(parent), []).append(int(folder.name))
    found, queue = [], [ancestor]
    while queue:
        generation = children.get(queue.pop(), [])
        found += generation
        queue += generation
    return found


def _signal_all(number: int, child: subprocess.Popen[bytes]) -> bool:
    """Send ``number`` to all that is left; False if there was nothing left."""
    targets = descendants(os.getpid()) if _LINUX else [] if child.poll() is not None else [child.pid]
    for pid in targets:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return bool(targets)


def _end_all(child: subprocess.Popen[bytes], grace_s: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not _LINUX:
        os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    left = _signal_all(signal.SIGTERM, child)
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = _signal_all(0, child)
    while left:  # again and again, since a process may have forked between listing and killing
        left = _signal_all(signal.SIGKILL, child)
        time.sleep(0.02)


def main(grace_s: float, command: list[str]) -> int:
    """Run ``command``; return its exit status: 128 + n if signal n ended it, 143 if this did."""
    let_go = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: let_go.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the starter, which decides
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # Forks before there is a second thread, which a function that runs between fork and exec demands.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent)
    threading.Thread(target=_watch_starter, args=(let_go,), daemon=True).start()
    while child.poll() is None and not let_go.wait(_POLL_S):
        pass
    status = child.poll()
    _end_all(child, grace_s)
    if status is None:
        return 128 + signal.SIGTERM
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    os._exit(main(float(sys.argv[1]), sys.argv[2:]))  # not sys.exit: the thread still reads standard input
