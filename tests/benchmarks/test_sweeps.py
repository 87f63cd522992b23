"""The sweeps' tables from made-up rows, those of the coverage study with more tries among them."""

import json

import pytest

from benchmarks import coverage, sweeps
from benchmarks.cells import Cells

MEASURED = {"tries": 8, "success": 0.5, "zero": 0.25, "spread": 1.0, "energy": 2.0, "frames": 256, "noise": 1.25}


@pytest.fixture
def rows(tmp_path, monkeypatch):
    for module in (coverage, sweeps):
        path = tmp_path / f"{module.__name__}.jsonl"
        monkeypatch.setattr(module, "RESULTS", Cells(path))
    ours = [{"cell": vars(cell), "first_solved": [0, 2, 8, 1], **MEASURED} for cell in sweeps.cells()]
    theirs = [
        {"cell": vars(coverage.Cell("lift", size, replicate, variant)), "first_solved": [9, 32, 8, 0], **MEASURED}
        for size in sweeps.SIZES
        for replicate in range(sweeps.REPLICATES + 1)
        for variant in coverage.VARIANTS
    ]
    for module, made in ((sweeps, ours), (coverage, theirs)):
        module.RESULTS.path.write_text("".join(json.dumps(row) + "\n" for row in made))


def test_rows_of_both_studies_stand_side_by_side(rows):
    table = sweeps.lengths() + sweeps.alphas()
    assert "| 200 (200) | bc | 50 | 25 | 25 | 1.00 | 2.00 |" in table
    assert (
        "| 6,000 (6,000) | postbc | 50 | 25 | 75 | 1.00 | 2.00 |" in table
    )  # solved by more than 8 tries is not solved
    assert "| Lift, 3 | auto (1.25, 1.25, 1.25) | 50 | 25 | 75 | 1.00 | 2.00 |" in table


def test_starts_count_as_solved_in_as_many_tries_as_every_row_had(rows):
    short = {"cell": vars(next(sweeps.cells())), "first_solved": [0, 2, 0, 1], **MEASURED, "tries": 2}
    sweeps.RESULTS.keep(short)
    table = sweeps.lengths()
    assert "never solved in 2 |" in table
    assert "| 20,000 (20,000) | bc | 50 | 25 | 50 | 1.00 | 2.00 |" in table  # of 0, 2, 8 and 1


def test_each_setting_has_every_replicate(rows):
    assert {len(found) for found in sweeps.known().values()} == {sweeps.REPLICATES}
