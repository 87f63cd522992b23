"""Rows of a run in progress, one line each as soon as they are there, for whoever watches."""

import json
import secrets
from pathlib import Path
from typing import Any

from postbc.storage.atomic import atomic_write

Row = dict[str, Any]


class Journal:
    """Lines of JSON at ``path``: what run this is, then its rows. Without a path nothing is written."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def begin(self, rows: list[Row]) -> None:
        """A run begins, or goes on after ``rows``; rows that a killed run wrote beyond its checkpoint are dropped."""
        if self.path is None:
            return
        known = read_journal(self.path) if rows and self.path.exists() else None
        head = {"run": known[0] if known else secrets.token_hex(8), "label": self.path.stem}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path, "".join(json.dumps(line) + "\n" for line in (head, *rows)))

    def add(self, row: Row) -> None:
        """One row more."""
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def read_journal(path: Path) -> tuple[str, str, list[Row]]:
    """The run's id, its label, and the rows so far."""
    head, *rows = read_lines(path)
    return head["run"], head["label"], rows


def read_lines(path: Path) -> list[Row]:
    """Lines of JSON; a last one that is still being written, or was cut off by a kill, is left out."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
