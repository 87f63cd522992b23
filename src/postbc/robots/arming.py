"""Arming: an operator's permission to move one robot with one policy within one set of limits, once and soon.

A permission is a private JSON file ``<nonce>.json``. Using it claims ``<nonce>.used``, which only one process
can create, so a second process, a second run and a token copied back all find it spent. Expired tokens, spent
or not, are removed; nothing else in the folder is ever deleted, and nothing in it is ever executed.
"""

import json
import math
import os
import re
import secrets
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from postbc.errors import NotArmedError, RobotError
from postbc.storage.atomic import fsync_path

FOLDER = Path(".work/arming")
LIFETIME_S = 600.0
MAX_LIFETIME_S = 3600.0
_CLOCK_SKEW_S = 5.0  # how far in the future a token may have been issued
_MAX_BYTES = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Request:
    """What is to be permitted.

    Attributes:
        robot: name of the robot.
        policy: fingerprint of the policy, sha256 as hex.
        limits: sha256 (hex) of the guard's limits as JSON.

    Raises RobotError if one of them is malformed.
    """

    robot: str
    policy: str
    limits: str

    def __post_init__(self) -> None:
        """Refuse malformed fields."""
        if not (isinstance(self.robot, str) and self.robot.strip()):
            raise RobotError(f"The robot's name is {self.robot!r}; expected a text that is not empty.")
        for name in ("policy", "limits"):
            value = getattr(self, name)
            if not (isinstance(value, str) and _SHA256.fullmatch(value)):
                raise RobotError(f"{name} is {value!r}; expected a sha256: 64 hexadecimal digits in lower case.")


@dataclass(frozen=True)
class Arming:
    """A permission as it is written to disk.

    Attributes:
        robot, policy, limits: as in :class:`Request`.
        operator: who gave it.
        issued, expires: seconds since the epoch; a permission never lasts longer than ``MAX_LIFETIME_S``.
        nonce: 32 hexadecimal digits, also the file's name.
        folder: the only one in which it counts: a copied project is not armed.
        boot: of which start of the machine it is, "" where that is not known: without its own clock a board begins in the past.

    Raises RobotError if one of them is malformed.
    """

    robot: str
    policy: str
    limits: str
    operator: str
    issued: float
    expires: float
    nonce: str
    folder: str
    boot: str

    def __post_init__(self) -> None:
        """Refuse malformed fields."""
        Request(self.robot, self.policy, self.limits)
        if not (isinstance(self.operator, str) and self.operator.strip()):
            raise RobotError(f"The operator is {self.operator!r}; expected a name.")
        if not (isinstance(self.nonce, str) and _NONCE.fullmatch(self.nonce)):
            raise RobotError(f"The nonce is {self.nonce!r}; expected 32 hexadecimal digits.")
        for moment in (self.issued, self.expires):
            if not isinstance(moment, float) or not math.isfinite(moment):
                raise RobotError(f"A time is {moment!r}; expected seconds as a finite float.")
        if not 0 < self.expires - self.issued <= MAX_LIFETIME_S:
            raise RobotError(
                f"Arming lasts more than 0 and at most {MAX_LIFETIME_S:.0f} s, not {self.lifetime_s:.0f} s."
            )

    @property
    def lifetime_s(self) -> float:
        """Seconds from issue to expiry."""
        return self.expires - self.issued

    @property
    def request(self) -> Request:
        """What it permits."""
        return Request(self.robot, self.policy, self.limits)


def issue(folder: Path, request: Request, operator: str, lifetime_s: float = LIFETIME_S) -> Path:
    """Write a token for ``request`` that is valid for ``lifetime_s`` seconds, readable by this user alone.

    Returns its path. Raises RobotError for an empty operator or a lifetime outside (0, ``MAX_LIFETIME_S``].
    """
    now = time.time()
    token = Arming(
        **asdict(request),
        operator=operator,
        issued=now,
        expires=now + lifetime_s,
        nonce=secrets.token_hex(16),
        **_here(folder),
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{token.nonce}.json"
    # Not storage.atomic_write, which makes its files readable by all.
    temporary = path.with_suffix(".tmp")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(token), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_path(folder)
    return path


def _here(folder: Path) -> dict[str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {"folder": str(folder.resolve()), "boot": boot.read_text().strip() if boot.exists() else ""}


def consume(folder: Path, request: Request) -> Arming:
    """Use up a valid token for ``request``; of two processes that race for one token exactly one gets it.

    Raises NotArmedError, which says what was found instead.
    """
    found: Counter[str] = Counter()
    for path in sorted(folder.glob("*.json")):
        try:
            token = _read(path)
        except (OSError, RobotError, ValueError):
            found["unreadable or malformed"] += 1
            continue
        reason = _mismatch(token, request, _here(folder))
        if reason is None and _claim(path):
            _remove_expired(folder)
            return token
        found[reason or "already used"] += 1
    _remove_expired(folder)
    raise NotArmedError(_explanation(folder, request, found))


def _read(path: Path) -> Arming:
    """The token in ``path``.

    Raises OSError, ValueError or RobotError unless it is a whole, private, regular file.
    """
    # O_NONBLOCK: opening a named pipe must not wait for a writer; O_NOFOLLOW: a link may point anywhere.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        private = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
        if not (stat.S_ISREG(status.st_mode) and private):
            raise RobotError(f"{path} is not a private file of this user.")
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise RobotError(f"{path} is longer than {_MAX_BYTES} bytes.")
    token = _parse(text)
    if path.stem != token.nonce:  # otherwise a copy under another name could be used a second time
        raise RobotError(f"{path} holds the token {token.nonce}.")
    return token


def _parse(text: bytes) -> Arming:
    try:
        content: Any = json.loads(text)
    except RecursionError as error:
        raise RobotError("The token is nested too deeply.") from error
    names = {field.name for field in fields(Arming)}
    if not isinstance(content, dict) or set(content) != names:
        raise RobotError(f"A token has exactly the fields {', '.join(sorted(names))}.")
    return Arming(**content)


def _mismatch(token: Arming, request: Request, here: dict[str, str]) -> str | None:
    """Why ``token`` does not permit ``request`` now; None if it does."""
    now = time.time()
    if now >= token.expires:
        return "expired"
    if token.folder != here["folder"]:
        return "for another folder"
    if token.boot != here["boot"]:
        return "from before the machine was started"
    if token.issued > now + _CLOCK_SKEW_S:
        return "issued in the future"
    if token.robot != request.robot:
        return f"for another robot ({token.robot!r})"
    if token.policy != request.policy:
        return f"for another policy ({token.policy[:12]})"
    if token.limits != request.limits:
        return "for other limits"
    return None


def _claim(path: Path) -> bool:
    """Mark the token in ``path`` as used; False if it was before or another process was faster."""
    used = path.with_suffix(".used")
    try:
        os.close(os.open(used, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    with suppress(FileNotFoundError):  # removed by hand between reading and claiming: the claim stands all the same
        path.rename(used)
    fsync_path(path.parent)
    return True


def _remove_expired(folder: Path) -> None:
    for path in _tokens(folder):
        with suppress(OSError, RobotError, ValueError):
            if time.time() >= _parse(path.read_bytes()[:_MAX_BYTES]).expires:
                path.unlink(missing_ok=True)


def _tokens(folder: Path) -> Iterator[Path]:
    """Regular files that may be tokens, spent ones as well."""
    for pattern in ("*.json", "*.used"):
        yield from (path for path in folder.glob(pattern) if path.is_file() and not path.is_symlink())


def _explanation(folder: Path, request: Request, found: Counter[str]) -> str:
    listing = ", ".join(f"{count} {reason}" for reason, count in sorted(found.items())) or "none"
    return (
        f"Robot {request.robot!r} is not armed for policy {request.policy[:12]} with these limits. "
        f"Tokens in {folder}: {listing}. "
        "Run `postbc robot arm`, or approve the run in Prefect; a token serves once and for minutes."
    )
