"""Rows of a run in progress, one line each as soon as they are there, for whoever watches."""

import json
import secrets
from pathlib import Path
from typing import Any, NamedTuple

from postbc.storage.atomic import atomic_write

Row = dict[str, Any]


_END = {"end": True}


class Journal:
    """Lines of JSON at ``path``: what run this is, its rows, that it is over. Without a path nothing is written."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def begin(self, rows: list[Row]) -> None:
        """A run begins, or goes on after ``rows``; rows that a killed run wrote beyond its checkpoint are dropped."""
        if self.path is None:
            return
        known = read_journal(self.path) if self.path.exists() else None
        if known and rows:
            head = {"run": known.run, "label": self.path.stem, "replaces": known.replaces}
        else:
            head = {"run": secrets.token_hex(8), "label": self.path.stem, "replaces": known.run if known else None}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path, "".join(json.dumps(line) + "\n" for line in (head, *rows)))

    def add(self, row: Row) -> None:
        """One row more."""
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def end(self) -> None:
        """The run is over."""
        self.add(_END)


class Written(NamedTuple):
    """What a journal says."""

    run: str  # its id
    label: str
    replaces: str | None  # the run whose journal this was before
    rows: list[Row]  # so far
    over: bool


def read_journal(path: Path) -> Written:
    """The journal at ``path``."""
    head, *rows = read_lines(path)
    return Written(head["run"], head["label"], head.get("replaces"), [row for row in rows if row != _END], _END in rows)


def read_lines(path: Path) -> list[Row]:
    """Lines of JSON; a last one that is still being written, or was cut off by a kill, is left out."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
