"""One process at a time: a lock on a file that ends with the process, however that ends."""

import fcntl
import os
from pathlib import Path

from postbc.errors import RobotError


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
