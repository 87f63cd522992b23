"""What a stage wants to move, asked of the stage itself: robot, policy and limits that an arming token must name."""

import json
import subprocess
import sys
from pathlib import Path

from postbc.errors import RobotError
from postbc.robots.arming import Request

TAIL = 20  # lines of a failing stage that are shown


def request_of(address: str, root: Path = Path()) -> Request:
    """Ask the stage at ``address`` (``finetune_robot@bc``) of the project in ``root``.

    Runs ``python -m stages.NAME --method M --request``. Raises RobotError if that fails or prints anything but one JSON
    object of robot, policy and limits.
    """
    name, _, method = address.partition("@")
    command = [sys.executable, "-m", f"stages.{name}", *(["--method", method] if method else []), "--request"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    try:
        if done.returncode != 0:
            raise ValueError(f"exit status {done.returncode}")
        return Request(**json.loads(done.stdout.strip().splitlines()[-1]))
    except (ValueError, TypeError, IndexError) as error:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL:])
        raise RobotError(f"Stage {address} does not say what it wants to move ({error}):\n{last}") from error
