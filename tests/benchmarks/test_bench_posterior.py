"""What `make bench-posterior` measures, on the smallest networks."""

import pytest

from benchmarks import posterior


def test_both_ways_to_train_members_are_measured(monkeypatch):
    monkeypatch.setattr(posterior, "SHAPES", ((8, 4),))
    monkeypatch.setattr(posterior, "MEMBERS", 2)
    numbers = posterior.measure(1)
    (row,) = numbers["steps"].values()
    assert row["ratio"] == pytest.approx(row["one_by_one_ms"] / row["stacked_ms"])
    assert 0 < row["share_of_product_rate"] < 1
    assert numbers["activation_us"].keys() == posterior.ACTIVATIONS.keys()
