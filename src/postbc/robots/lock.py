"""One process at a time: a lock on a file that ends with the process, however that ends."""

import fcntl
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from postbc.errors import RobotError


def own_folder() -> Path:
    """Where this user's projects keep what they lock between them. Raises RobotError where another user made it."""
    folder = Path(tempfile.gettempdir(), f"postbc-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RobotError(f"{folder} is no folder of yours, so it can lock no robot: have it removed.")
    return folder


def hold(path: Path, what: str) -> int:
    """Lock ``path`` until this process ends. Raises RobotError, which names ``what``, while another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise RobotError(f"another session runs with {what}; end it first.") from error
    return file
