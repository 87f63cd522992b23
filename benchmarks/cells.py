"""Results of a study, cell by cell: a line of JSON each, appended when it is done; a study goes on where it was stopped."""

import json
from pathlib import Path

from postbc.storage.journal import Row, read_lines


class Cells:
    """Rows at ``path``, each with the ``cell`` that it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[Row]:
        """All rows so far; of a cell that was run again, the last."""
        lines = read_lines(self.path) if self.path.exists() else []
        return list({json.dumps(row["cell"]): row for row in lines}.values())

    def find(self, cell: Row) -> Row | None:
        """The row of ``cell``; None where it has not been run."""
        return next((row for row in self.rows() if row["cell"] == cell), None)

    def lacks(self, cell: Row, tries: int = 0) -> bool:
        """Whether ``cell`` has not been run, or with fewer tries from each start."""
        row = self.find(cell)
        return row is None or row.get("tries", tries) < tries

    def keep(self, row: Row) -> None:
        """Append a row."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
