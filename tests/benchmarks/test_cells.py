"""Results that grow cell by cell."""

from types import SimpleNamespace

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


def test_a_row_that_was_cut_off_is_run_again_and_harms_no_other(tmp_path):
    cells, one, two = Cells(tmp_path / "x.jsonl"), {"seed": 0}, {"seed": 1}
    cells.keep({"cell": one})
    whole = cells.path.read_bytes()
    for cut in range(1, len(whole)):
        cells.path.write_bytes(whole + whole.replace(b"0", b"1")[:-cut])
        assert cells.lacks(two) == (cut > 1)  # the last line whole but for its end says all
        cells.keep({"cell": two})
        assert [row["cell"] for row in cells.rows()] == [one, two]


def test_only_what_has_not_been_run_is_run(tmp_path):
    cells, ran = Cells(tmp_path / "x.jsonl"), []
    both = [SimpleNamespace(seed=0), SimpleNamespace(seed=1)]
    cells.keep({"cell": {"seed": 0}, "tries": 8})

    def run(cell):
        ran.append(cell.seed)
        return {"cell": vars(cell), "tries": 8}

    for _ in range(2):
        cells.fill(both, run, 8)
    assert ran == [1]
