"""Tables in the documentation that a study makes: they stand between marks which name the command that writes them."""

from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
END = "<!-- end -->"


@dataclass(frozen=True)
class Part:
    """What ``python -m benchmarks.<source>`` makes of a page."""

    page: Path
    source: str
    what: str = ""  # of several parts

    @property
    def begin(self) -> str:
        """The first mark."""
        return f"<!-- made by python -m benchmarks.{self.source}{self.what and f': {self.what}'} -->\n"

    def placed(self, text: str, made: str) -> str:
        """``text`` with what stands between the marks replaced. Raises ValueError where it has none."""
        before, mark, rest = text.partition(self.begin)
        _, end, after = rest.partition(END)
        if not (mark and end):
            raise ValueError(f"{self.page} has no {self.begin.strip()} … {END}")
        return before + mark + made + end + after

    def write(self, made: str) -> None:
        """Print it, and put it into the page."""
        print(made)
        self.page.write_text(self.placed(self.page.read_text(), made))
