"""Processes that serve this one, and what passes between them: JSON and numbers, never pickled objects, which run code."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
HEADER_BYTES = 64 * 2**20
KINDS = "fiub"  # of arrays: numbers
GRACE = 5.0  # seconds
LOOK = 0.1  # seconds between two looks at a parent
# What a terminal sends to all that run in it: it is for whoever started a child, who then closes the pipe.
TERMINALS = ("SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """SIGTERM when the parent dies: another process may hold the pipe to it open. Linux sends it, elsewhere a thread looks."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=watch_parent, args=(os.getppid(),), name="parent", daemon=True).start()


def watch_parent(parent: int) -> None:
    """Send this process SIGTERM once ``parent`` is not its parent any more."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGTERM)


class Child:
    """``python -m module FD``: another process of this project, with a pipe to it. It ends when the pipe does."""

    ending = GRACE  # seconds between being asked to end and being killed

    def __init__(self, module: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", module, str(theirs.fileno())]  # -P: nothing of the current folder
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self.pipe = Connection(ours.detach())

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End it at once."""
        self.pipe.close()
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Let it end: the pipe closes; after GRACE seconds it is asked, after ``ending`` more it is killed."""
        self.pipe.close()
        for patience, insist in ((GRACE, self.process.terminate), (self.ending, self.process.kill)):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                return
            insist()
        self.process.wait()


def served(serve: Callable[[Connection], None]) -> None:
    """The main program of a child's module: serve the pipe whose number stands on the command line until it closes."""
    for name in TERMINALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    die_with_parent()
    with Connection(int(sys.argv[1])) as pipe, suppress(EOFError, OSError):
        serve(pipe)


def send(pipe: Connection, value: Any, arrays: Arrays | None = None) -> None:
    """Send a JSON value and named arrays of numbers."""
    parts = {name: np.asarray(array, order="C") for name, array in (arrays or {}).items()}
    shapes = [[name, array.dtype.str, list(array.shape)] for name, array in parts.items()]
    pipe.send_bytes(json.dumps([value, shapes]).encode())
    for array in parts.values():
        if array.size:
            pipe.send_bytes(array.reshape(-1).view(np.uint8))


def receive(pipe: Connection) -> tuple[Any, dict[str, np.ndarray]]:
    """What was sent. Raises EOFError or OSError when the other side is gone."""
    value, shapes = json.loads(pipe.recv_bytes(HEADER_BYTES))
    return value, {name: _array(pipe, np.dtype(kind), shape) for name, kind, shape in shapes}


def _array(pipe: Connection, dtype: np.dtype, shape: list[int]) -> np.ndarray:
    if dtype.kind not in KINDS:
        raise OSError(f"an array of {dtype}")
    array = np.empty(shape, dtype)
    if array.size and pipe.recv_bytes_into(array.reshape(-1).view(np.uint8)) != array.nbytes:
        raise OSError("too few bytes")
    return array
