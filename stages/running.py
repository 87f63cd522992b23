"""What all stages share: arguments, configuration, logging, and how they end."""

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable

from postbc.compose import load_config
from postbc.config import Config, Method
from postbc.errors import PostbcError
from postbc.processes import die_with_parent
from stages import PARENT

log = logging.getLogger("postbc")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def _terminate(*_: object) -> None:
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # a second one would break off what the first one ends
    raise KeyboardInterrupt  # so that every `finally` on the way out runs


def arguments(doc: str, method: bool) -> argparse.ArgumentParser:
    """The command line of a stage; ``method`` for those that run once a method."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if method:
        parser.add_argument("--method", choices=list(Method), required=True, help="which policy")
    return parser


def run(
    stage: Callable[[Config, argparse.Namespace], None], parser: argparse.ArgumentParser, attended: bool = False
) -> None:
    """Run ``stage`` in the project's root. Exit code 2 for the user's mistakes, 130 when interrupted.

    Under nohup it outlives its terminal, unless somebody must be there (``attended``).
    """
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    first = os.environ.get("RANK", "0") == "0"  # of processes that train together, one speaks
    logging.getLogger("postbc").setLevel(logging.INFO if first else logging.WARNING)
    for name in ("lerobot", "numexpr", "matplotlib"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    die_with_parent()  # so that no stage, and no robot, goes on unsupervised
    if os.getppid() != PARENT:
        sys.exit(_tell("whoever started this stage has ended", 130))
    for number in STOPPING:  # also where the background of a script would ignore them
        nohup = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
        if attended or not nohup:
            signal.signal(number, _terminate)
    try:
        stage(load_config(), options)
    except PostbcError as error:
        sys.exit(_tell(f"error: {error}", 2))
    except KeyboardInterrupt:
        sys.exit(_tell("interrupted; `dvc repro` goes on from the last checkpoint", 130))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS):
            raise
        sys.exit(_tell(f"error: {error.strerror}: {error.filename or 'while writing'}. Nothing was half written.", 2))


def _tell(message: str, code: int) -> int:
    log.error(message)
    return code
