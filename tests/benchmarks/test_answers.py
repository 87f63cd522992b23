"""The coverage study's answers from made-up cells whose answers are known."""

import json

import numpy as np
import pytest

from benchmarks import answers, coverage
from benchmarks.cells import Cells

SUCCESS = {"bc": 0.5, "postbc": 0.4, "postbc auto": 0.45}


def cells(replicates, skip=(), task="lift", bonus=0.0):
    """PostBC 10 points worse in one try, give or take; it solves what BC never does, σ-BC half of that."""
    random = np.random.default_rng(0)
    for replicate in range(replicates):
        for variant in coverage.VARIANTS:
            solved = np.ones(8, int)
            solved[:4] = {"bc": 0, "postbc": 3}.get(variant, 0)
            solved[:2] = {"sigma matched": 5}.get(variant, solved[0])
            noise = 0.02 * random.standard_normal()
            success = SUCCESS.get(variant, 0.5) + noise
            row = {
                "cell": {"task": task, "size": 5, "replicate": replicate, "variant": variant},
                "success": success,
                "mean_max_reward": success + bonus,
                "best_reward": success + 2 * bonus * (variant == "postbc"),
                "zero_reward": success + bonus,
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


def test_a_reward_that_is_more_than_success_has_questions_of_its_own(results):
    results(cells(5))
    assert asked("PostBC against BC, best reward of 4") == ""
    results([*cells(5), *cells(5, task="pusht", bonus=0.2)])
    assert asked("PostBC against BC, best reward of 4").startswith("+30")  # of PushT alone: 0.4 more, 0.1 less
    assert asked("PostBC against BC, starts ever solved") == "+50 (+50 to +50) more"
    by_task = {task: answers.cell(rows, "bc") for (task, _), rows in answers.complete().items()}
    assert by_task["lift"] == "50 / 48 / 50 (1.00)"
    assert by_task["pusht"] == "70 / 70 / 50 (1.00)"


def test_an_unfinished_set_decides_nothing(results):
    results(cells(3, skip={(1, "mixture")}))
    assert len(answers.complete()["lift", 5]) == 2
    assert asked("PostBC against BC, one try") == "too few"
    assert answers.verdict([np.array([1.0, 1.1, 1.2]), np.array([1.0])]) == "too few"  # nor one beside a whole one


def test_an_interval_has_the_mean_of_the_groups_in_it():
    value, low, high = answers.interval([np.array([0.0, 2.0]), np.array([10.0])])
    assert value == pytest.approx(5.5)
    assert (low, high) == (5.0, 6.0)
