"""The coverage study's answers from made-up cells whose answers are known."""

import json

import numpy as np
import pytest

from benchmarks import answers, coverage
from benchmarks.cells import Cells

SUCCESS = {"bc": 0.5, "postbc": 0.4, "postbc auto": 0.45}


def cells(replicates, skip=()):
    """PostBC 10 points worse in one try, give or take; it solves what BC never does, σ-BC half of that."""
    random = np.random.default_rng(0)
    for replicate in range(replicates):
        for variant in coverage.VARIANTS:
            solved = np.ones(8, int)
            solved[:4] = {"bc": 0, "postbc": 3}.get(variant, 0)
            solved[:2] = {"sigma matched": 5}.get(variant, solved[0])
            noise = 0.02 * random.standard_normal()
            row = {
                "cell": {"task": "lift", "size": 5, "replicate": replicate, "variant": variant},
                "success": SUCCESS.get(variant, 0.5) + noise,
                "zero": 0.5 + 10 * noise,
                "value": float((solved > 0).mean()),
                "energy": 1.0,
                "first_solved": solved.tolist(),
            }
            if (replicate, variant) not in skip:
                yield row


@pytest.fixture
def results(tmp_path, monkeypatch):
    path = tmp_path / "coverage.jsonl"
    monkeypatch.setattr(coverage, "RESULTS", Cells(path))

    def write(rows):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def asked(text):
    question = next(q for q in answers.QUESTIONS if q.text == text)
    return answers.answer(question, list(answers.complete().values()))


def test_signs_and_verdicts(results):
    results(cells(5))
    assert asked("PostBC against BC, one try").startswith("−") and asked("PostBC against BC, one try").endswith("less")
    assert asked("PostBC against BC, w = 0").endswith("undecided")
    assert asked("PostBC against BC, starts ever solved") == "+50 (+50 to +50) more"
    assert asked("PostBC against matched σ-BC, of starts dead under BC") == "+50 (+50 to +50) more"


def test_an_unfinished_set_decides_nothing(results):
    results(cells(3, skip={(1, "mixture")}))
    assert len(answers.complete()["lift", 5]) == 2
    assert asked("PostBC against BC, one try") == "too few"
    assert answers.verdict([np.array([1.0, 1.1, 1.2]), np.array([1.0])]) == "too few"  # nor one beside a whole one


def test_an_interval_has_the_mean_of_the_groups_in_it():
    value, low, high = answers.interval([np.array([0.0, 2.0]), np.array([10.0])])
    assert value == pytest.approx(5.5)
    assert (low, high) == (5.0, 6.0)
