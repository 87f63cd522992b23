"""A manifest lists path, size and sha256 of every file in an artifact folder; it is written last, as the commit mark."""

import hashlib
import shlex
from pathlib import Path

from postbc.errors import IntegrityError
from postbc.storage.atomic import read_json, write_json

NAME = "manifest.json"


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sources(*folders: Path) -> str:
    """Hex sha256 of all Python modules below ``folders``: whether what they do may have changed."""
    files = [(str(p.relative_to(folder)), sha256_file(p)) for folder in folders for p in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(repr(files).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != NAME)


def describe(folder: Path) -> dict[str, dict[str, int | str]]:
    """Relative path → size and sha256, for every file below ``folder`` but the manifest itself."""
    return {
        p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": sha256_file(p)} for p in _files(folder)
    }


def write_manifest(folder: Path) -> None:
    """Commit ``folder``: describe its files in ``manifest.json``."""
    write_json(folder / NAME, describe(folder))


def restoring(folder: Path) -> str:
    """What to do where ``folder`` is damaged."""
    if ".work" in folder.parts:  # a checkpoint, of which DVC knows nothing
        return f"Delete the folder {folder} and run `dvc repro`."
    # Without a target DVC would reset every output, and delete demonstrations and recordings that were not added yet.
    tracked = f"Run `dvc checkout --force {shlex.quote(str(folder))}`"
    if "artifacts" in folder.parts and "recordings" not in folder.parts:
        return f"{tracked}, or delete the folder and run `dvc repro`."
    return f"{tracked} if DVC has it, or fetch it again from where it came; no stage makes it anew."


def _committed(folder: Path) -> Path:
    """The manifest of ``folder``. Raises IntegrityError where there is none."""
    if not (folder / NAME).is_file():
        raise IntegrityError(
            f"{folder} is missing or was never finished (no {NAME}). Run the stage that makes it: `dvc repro`."
        )
    return folder / NAME


def difference(folder: Path) -> str | None:
    """The first file that is missing, added, truncated or altered, in words; None where all are as the manifest says."""
    if not (folder / NAME).is_file():
        return f"{folder} has no {NAME}."
    try:
        recorded, found = read_json(folder / NAME), describe(folder)
    except ValueError as error:
        return f"{folder / NAME} is damaged ({error})."
    for name in sorted(recorded.keys() | found.keys()):
        if recorded.get(name) != found.get(name):
            was, now = recorded.get(name), found.get(name)
            return f"{folder / name} differs from the manifest: recorded {was}, found {now}."
    return None


def check_manifest(folder: Path) -> None:
    """Compare every file with the manifest. Raises IntegrityError that names the first :func:`difference`."""
    _committed(folder)
    if (found := difference(folder)) is not None:
        raise IntegrityError(f"{found} {restoring(folder)}")


def fingerprint(folder: Path) -> str:
    """Hex sha256 that identifies the folder's content, from its manifest. Raises IntegrityError where there is none."""
    return sha256_file(_committed(folder))
