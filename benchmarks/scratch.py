"""Checkpoints of what is trained in one go: nobody goes on from them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postbc.storage.checkpoint import Checkpoints


@contextmanager
def scratch() -> Iterator[Checkpoints]:
    """Checkpoints that are deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Checkpoints(Path(folder) / "scratch", "")
