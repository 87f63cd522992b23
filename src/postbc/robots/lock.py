"""One process at a time: a lock on a file that ends with the process, however that ends."""

import fcntl
import logging
import os
import re
import stat
import termios
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from postbc.errors import RobotError

log = logging.getLogger("postbc")
SHARED = Path("/tmp")  # noqa: S108 - of all of a user's projects, whatever TMPDIR says; the folder below it is checked
# LeRobot's settings that say where a robot is reached; at a host it may be one of several ports.
ADDRESS = re.compile(r"(^|_)(port|ip|host|address|url|serial|serial_number|device|channel)$")

PORT = re.compile(r"/dev/(tty|cu\.|pts/)")  # a terminal line, as Linux and macOS call them


def own_folder() -> Path:
    """Where this user's projects keep what they lock between them. Raises RobotError where another user made it."""
    folder = SHARED / f"postbc-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RobotError(f"{folder} is no folder of yours, so it can lock no robot: have it removed.")
    return folder


def addresses(kind: str, settings: Mapping[str, Any]) -> list[str]:
    """Where a robot with LeRobot's ``settings``, its defaults among them, is reached, each once: two arms have two.

    Of one without an address it is the type: better one too few at a time than two on one arm.
    """
    return sorted(set(_addresses(settings))) or [kind]


def _addresses(settings: Mapping[str, Any]) -> Iterator[str]:
    port = settings.get("port")
    for name, value in settings.items():
        if isinstance(value, Mapping) and name != "cameras":
            yield from _addresses(value)
        elif isinstance(value, str) and ADDRESS.search(name):
            where = os.path.realpath(value) if value.startswith("/") else value
            yield f"{where}:{port}" if isinstance(port, int) else where


def hold_device(kind: str, settings: Mapping[str, Any]) -> list[int]:
    """Lock a device of LeRobot's ``settings`` for this process, whichever project it is of; what keeps it locked.

    Raises RobotError while another process has one at an address of it: another session, or this one's other device.
    """
    keys = {address: sha256(address.encode()).hexdigest()[:16] for address in addresses(kind, settings)}
    return [hold(own_folder() / f"{key}.lock", f"{kind} at {address}") for address, key in keys.items()]


def close_to_others(kind: str, settings: Mapping[str, Any]) -> list[int]:
    """Let nobody else, such as LeRobot's own commands, open the serial ports of a device that is connected; but root can."""
    ports = []
    for path in filter(_is_port, addresses(kind, settings)):
        try:
            ports.append(os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
            fcntl.ioctl(ports[-1], termios.TIOCEXCL)
        except OSError as error:  # EBUSY: the driver has done it
            log.info("%s is not closed to other programs here: %s", path, error)
    return ports


def _is_port(path: str) -> bool:
    """Whether ``path`` is a terminal line; opening anything else may do something."""
    return PORT.match(path) is not None and Path(path).exists()


def hold(path: Path, what: str) -> int:
    """Lock ``path`` until this process ends. Raises RobotError, which names ``what``, while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise RobotError(f"another session runs with {what}, or another device of this one is there.") from error
    return file
