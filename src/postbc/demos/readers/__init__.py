"""Readers of recorded demonstrations: one file a format, chosen by looking at the files.

A reader has ``matches(path)``, true for what it can read, and ``read(path)``, which yields episodes in the order of the
recording. What is wrong with a recording is a DataError that names the file, the episode and the key; what a library says
of a damaged file is made one in :mod:`postbc.demos.isolation`. Facts of an episode that mean the same
everywhere: ``name``, ``fps``, ``task`` (the instruction), ``operator``. A folder's parts that another reader would take for
recordings are its ``PARTS``. To add a format, write a file beside these and add
it to READERS.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from postbc.demos import isolation
from postbc.demos.bounds import refuse_special
from postbc.demos.episode import Episode, sound
from postbc.demos.readers import diffusion_policy, lerobot, minari, npz, robomimic, store
from postbc.errors import DataError
from postbc.storage.manifest import describe, sha256_file

READERS: tuple[ModuleType, ...] = (robomimic, diffusion_policy, lerobot, minari, npz, store)


@dataclass(frozen=True)
class Source:
    """A recording on disk and the reader for it; ``filter_key`` names the subset that is read."""

    path: Path
    reader: ModuleType
    filter_key: str | None = None

    @property
    def format(self) -> str:
        """Name of the format."""
        return self.reader.__name__.rpartition(".")[2]

    @property
    def sha256(self) -> str:
        """Identifies the recording's bytes, of a folder names and bytes of all its files, and the subset."""
        found = sha256_file(self.path) if self.path.is_file() else _digest(sorted(describe(self.path).items()))
        return found if self.filter_key is None else _digest((found, self.filter_key))

    def episodes(self) -> Iterator[Episode]:
        """The recorded episodes, in order; DataError for a damaged recording, or where the format has no filter keys."""
        if self.filter_key is not None and self.reader is not robomimic:
            raise DataError(f"{self.path}: only robomimic's files have filter keys, this is {self.format}.")
        refuse_special(self.path)
        chosen = (self.path,) if self.filter_key is None else (self.path, self.filter_key)
        for number, episode in enumerate(isolation.read(self.reader, *chosen)):
            yield sound(episode, f"{self.path}: {episode.facts.get('name', number)}")


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def _refuse_others(path: Path, reader: ModuleType) -> None:
    """Raise DataError for a folder that is a recording and has others in it: they would not be read."""
    own = getattr(reader, "PARTS", ())
    children = (child for child in sorted(path.iterdir()) if child.name not in own) if path.is_dir() else ()
    others = [child.name for child in children if any(other.matches(child) for other in READERS)]
    if others:
        raise DataError(
            f"{path} is one recording ({reader.__name__.rpartition('.')[2]}), and {', '.join(others)} in it would not be "
            "read. Put each recording into a folder of its own."
        )


def _walk(path: Path, filter_key: str | None, top: bool = True) -> Iterator[Source]:
    for reader in READERS:
        if reader.matches(path):
            _refuse_others(path, reader)
            yield Source(path, reader, filter_key)
            return
    if path.is_dir() and (top or not path.is_symlink()):
        for child in sorted(path.iterdir()):
            yield from _walk(child, filter_key, top=False)


def find_sources(path: Path, filter_key: str | None = None) -> list[Source]:
    """Every recording at or below ``path``, sorted by name, and of each the subset ``filter_key``; folders that are links are
    not searched. Raises DataError when there is none, or one inside of another.
    """
    formats = "; ".join((reader.__doc__ or "").splitlines()[0].rstrip(".") for reader in READERS)
    if not path.exists():
        raise DataError(
            f"{path} does not exist. Put demonstrations there ({formats}), or run `dvc pull data/lift` for the ones "
            "that come with the project."
        )
    sources = list(_walk(path, filter_key))
    if not sources:
        raise DataError(
            f"{path} holds no demonstrations that can be read (folders that are links are not entered). Readable: {formats}."
        )
    return sources
