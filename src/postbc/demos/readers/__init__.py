"""Readers of recorded demonstrations: one file a format, chosen by looking at the files.

A reader has ``matches(path)``, true for what it can read, and ``read(path)``, which yields episodes in the order of the
recording. Both raise DataError that names the file, the episode and the key. To add a format, write a file beside these
and add it to READERS.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from postbc.demos.episode import Episode
from postbc.demos.readers import diffusion_policy, robomimic
from postbc.errors import DataError
from postbc.storage.manifest import describe, sha256_file

READERS: tuple[ModuleType, ...] = (robomimic, diffusion_policy)


@dataclass(frozen=True)
class Source:
    """A recording on disk and the reader for it."""

    path: Path
    reader: ModuleType

    @property
    def sha256(self) -> str:
        """Identifies the recording's bytes; of a folder, names and bytes of all its files."""
        if self.path.is_file():
            return sha256_file(self.path)
        return hashlib.sha256(repr(sorted(describe(self.path).items())).encode()).hexdigest()

    def episodes(self) -> Iterator[Episode]:
        """The recorded episodes, in order."""
        yield from self.reader.read(self.path)


def _walk(path: Path) -> Iterator[Source]:
    for reader in READERS:
        if reader.matches(path):
            yield Source(path, reader)
            return
    if path.is_dir() and not path.is_symlink():
        for child in sorted(path.iterdir()):
            yield from _walk(child)


def find_sources(path: Path) -> list[Source]:
    """Every recording at or below ``path``, sorted by name.

    Raises DataError when there is none.
    """
    formats = "; ".join((reader.__doc__ or "").splitlines()[0].rstrip(".") for reader in READERS)
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Put demonstrations there ({formats}), or run `dvc pull data.dvc` for the ones "
            "that come with the project."
        )
    sources = list(_walk(path))
    if not sources:
        raise DataError(f"{path} holds no demonstrations that can be read. Readable: {formats}.")
    return sources
