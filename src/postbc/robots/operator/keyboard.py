"""Single keys in a terminal: what a person types reaches the desk at once, without Enter."""

import atexit
import os
import select
import termios
import threading
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from postbc.robots.operator.desk import Event

KEYS = {
    "\r": Event.START,
    "\n": Event.START,
    "s": Event.SUCCESS,
    "f": Event.FAILURE,
    "i": Event.INTERVENE,
    "q": Event.STOP,
    " ": Event.STOP,
    "\x1b": Event.STOP,
}
HELP = "Enter start, s success, f failure, i take or give back the arm, q, Esc or space stop"
GONE = "the terminal is gone"
_CHUNK = 256


def events(typed: str) -> list[Event]:
    """What ``typed`` means; the sequence of an arrow or function key, which also begins with Esc, means nothing."""
    found, rest = [], typed.lower()
    while rest:
        if rest[:2] in ("\x1b[", "\x1bo"):
            rest = rest[2:].lstrip("0123456789;")[1:]
            continue
        if rest[0] in KEYS:
            found.append(KEYS[rest[0]])
        rest = rest[1:]
    return found


def terminal(stdin: Any) -> int | None:
    """The descriptor of a terminal that this process may read; None if there is none."""
    try:
        fd = int(stdin.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    if not os.isatty(fd):
        return None
    try:  # a job in the background would be suspended by reading
        return fd if os.tcgetpgrp(fd) == os.getpgrp() else None
    except OSError:  # a terminal that controls nobody suspends nobody
        return fd


class Keyboard:
    """Posts the keys typed at terminal ``fd`` from a thread of its own; a terminal that hangs up means STOP.

    Ctrl-C stays Ctrl-C. The terminal's mode comes back with :meth:`close`, which also runs when the interpreter ends.
    """

    def __init__(self, fd: int, post: Callable[[Event, str], object]) -> None:
        self._fd, self._post = fd, post
        self._mode = termios.tcgetattr(fd)
        self._closed = False
        self._wake_read, self._wake = os.pipe()
        atexit.register(self.close)
        tty.setcbreak(fd, termios.TCSANOW)
        termios.tcflush(fd, termios.TCIFLUSH)  # an Enter from before must not start a robot
        self._thread = threading.Thread(target=self._read, name="operator-keyboard", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            ready = select.select([self._fd, self._wake_read], [], [])[0]
            if self._wake_read in ready:
                return
            try:
                typed = os.read(self._fd, _CHUNK)
            except OSError:  # the other end of a pseudo-terminal was closed
                typed = b""
            if not typed:
                self._post(Event.STOP, GONE)
                return
            for event in events(typed.decode(errors="replace")):
                self._post(event, "terminal")

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._closed:
            return
        self._closed = True
        os.write(self._wake, b".")
        self._thread.join()
        with suppress(termios.error):  # of a terminal that is gone
            termios.tcsetattr(self._fd, termios.TCSANOW, self._mode)
        for end in (self._wake_read, self._wake):
            os.close(end)
        atexit.unregister(self.close)
