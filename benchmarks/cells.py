"""Results of a study, cell by cell: a line of JSON each, appended when it is done; a study goes on where it was stopped."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from postbc.progress import log
from postbc.storage.journal import Row


def _parsed(line: str) -> Row | None:
    try:
        return dict(json.loads(line))
    except ValueError:
        return None


class Cells:
    """Rows at ``path``, each with the ``cell`` that it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[Row]:
        """All rows so far; of a cell that was run again, the last. A row that was cut off counts as none."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        rows = [row for line in lines if (row := _parsed(line))]
        return list({json.dumps(row["cell"]): row for row in rows}.values())

    def find(self, cell: Row) -> Row | None:
        """The row of ``cell``; None where it has not been run."""
        return next((row for row in self.rows() if row["cell"] == cell), None)

    def lacks(self, cell: Row, tries: int = 0) -> bool:
        """Whether ``cell`` has not been run, or with fewer tries from each start."""
        row = self.find(cell)
        return row is None or row.get("tries", tries) < tries

    def fill(self, cells: Iterable[Any], run: Callable[[Any], Row], tries: int = 0) -> None:
        """Run what has not been run, one cell after the other."""
        for cell in cells:
            if self.lacks(vars(cell), tries):
                self.keep(run(cell))
                log.info("%s", list(vars(cell).values()))

    def keep(self, row: Row) -> None:
        """Append a row, to which another process may be appending as well."""
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")
        with self.path.open("a") as file:
            file.write(("" if whole else "\n") + json.dumps(row) + "\n")
