"""Write a file or a folder so that a reader sees the old one or the new one, never a part."""

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def fsync_path(path: Path) -> None:
    """Flush a file or a folder's directory entry to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a file to fill, which then replaces ``path``: flushed to the disk, renamed, the folder flushed.

    On any error ``path`` is as it was and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(fd)
    building = Path(name)
    try:
        yield building
        building.chmod(0o644)  # mkstemp makes it private; artifacts are shared like any other file
        fsync_path(building)
        building.replace(path)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def atomic_write(path: Path, data: bytes | str) -> None:
    """Replace ``path`` by ``data``.

    Raises OSError (for instance a full disk) with the old file untouched and no temporary file left.
    """
    with atomic_file(path) as building:
        building.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as sorted, indented JSON; equal values give equal bytes."""
    atomic_write(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


def append(file: int, data: bytes) -> None:
    """Write all of ``data`` to an open file. Raises OSError when it is not all on its way, as on a full disk."""
    while data:
        data = data[os.write(file, data) :]


def _fsync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        fsync_path(path)
    fsync_path(folder)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Build a folder under a temporary name and put it in the place of ``path`` when the block succeeds.

    The temporary folder lies beside the target and is removed when the block fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        building.chmod(0o755)  # mkdtemp makes it private
        yield building
        _fsync_tree(building)
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            path.replace(old)
        building.replace(path)
        fsync_path(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV; the columns are all keys in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())
