"""Results that grow cell by cell."""

from benchmarks.cells import Cells


def test_a_cell_that_was_run_again_counts_once_and_as_it_was_last(tmp_path):
    cells, one, two = Cells(tmp_path / "x.jsonl"), {"task": "lift", "seed": 0}, {"task": "lift", "seed": 1}
    assert cells.lacks(one)
    cells.keep({"cell": one, "value": 1, "tries": 2})
    cells.keep({"cell": two, "value": 2})
    assert not cells.lacks(one) and cells.lacks(one, 8) and not cells.lacks(two, 8)  # tries are no matter of two
    cells.keep({"cell": one, "value": 3, "tries": 8})
    assert not cells.lacks(one, 8)
    assert [row["value"] for row in cells.rows()] == [3, 2]
    found = cells.find(one)
    assert found is not None and found["value"] == 3
