"""The documentation's tables are those of the results beside it."""

from pathlib import Path

import pytest

from benchmarks import answers, claims, spacing, sweeps
from benchmarks.pages import DOCS, Part

PARTS = {
    answers.PART: lambda: answers.page(answers.complete()),
    claims.PART: lambda: claims.page(claims.whole()),
    spacing.PART: spacing.table,
    **sweeps.PARTS,
}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.begin.split("benchmarks.")[1].removesuffix(" -->\n"))
def test_the_documentation_says_what_was_measured(part):
    page = part.page.read_text()
    assert part.placed(page, PARTS[part]()) == page, f"python -m benchmarks.{part.source}"


def test_every_part_is_known_here():
    marked = sum(page.read_text().count("<!-- made by ") for page in DOCS.glob("*.md"))
    assert marked == len(PARTS)


def test_what_surrounds_a_part_is_kept_and_marks_must_be_there():
    part = Part(Path("x.md"), "x", "of y")
    text = "before\n<!-- made by python -m benchmarks.x: of y -->\nold\n<!-- end -->\nafter\n"
    assert part.placed(text, "new\n") == text.replace("old", "new")
    for torn in ("before\nafter\n", text.replace("<!-- end -->", "")):
        with pytest.raises(ValueError, match="has no"):
            part.placed(torn, "new\n")
