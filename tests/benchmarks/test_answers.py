"""The coverage study's answers from made-up cells whose answers are known."""

import json

import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from benchmarks import answers, coverage
from benchmarks.cells import Cells

SUCCESS = {"bc": 0.5, "postbc": 0.4, "postbc auto": 0.45}


def cells(replicates, skip=(), task="lift", bonus=0.0, size=5, tries=32):
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
                "tries": tries,
                "cell": {"task": task, "size": size, "replicate": replicate, "variant": variant},
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
    return answers.answer(question, answers.complete())


def test_signs_and_verdicts(results):
    results(cells(5))
    assert asked("PostBC against BC, one try").startswith("−") and asked("PostBC against BC, one try").endswith("less")
    assert asked("PostBC against BC, w = 0").endswith("undecided")
    assert asked("PostBC against BC, starts ever solved") == "+50 (+50 to +50) undecided"
    assert asked("PostBC against matched σ-BC, of starts dead under BC") == "+50 (+50 to +50) undecided"


def test_pusht_is_judged_by_its_reward(results):
    results([*cells(5), *cells(5, task="pusht", bonus=0.2)])
    assert asked("PostBC against BC, starts ever solved").startswith("+40")  # PushT's best of 4: 0.4 more, 0.1 less
    assert (
        asked("PostBC against matched σ-BC, of starts dead under BC") == "+50 (+50 to +50) undecided"
    )  # of Lift alone
    by_task = {task: answers.cell(rows, "bc") for (task, _), rows in answers.complete().items()}
    assert by_task["lift"] == "50 / 48 / 50 (1.00)"
    assert by_task["pusht"] == "70 / 70 / 50 (1.00)"


def test_the_page_has_every_set(results):
    results([*cells(5), *cells(2, task="pusht")])
    made = answers.page(answers.complete())
    assert "| lift, 5 (5) | pusht, 5 (2) |" in made and "| lift | pusht | all |" in made


def test_the_figure_draws_sets_that_decide_and_sets_that_do_not(results, tmp_path):
    results([*cells(5), *cells(2, task="pusht")])
    answers.draw(answers.complete(), tmp_path / "coverage.png")
    assert plt.imread(tmp_path / "coverage.png").std() > 0.05


def test_an_unfinished_set_decides_nothing(results):
    results(cells(3, skip={(1, "mixture")}))
    assert len(answers.complete()["lift", 5]) == 2
    assert asked("PostBC against BC, one try") == "too few"
    assert answers.verdict([np.array([1.0, 1.1, 1.2]), np.array([1.0])]) == "too few"  # nor one beside a whole one


def test_an_interval_is_students():
    values = np.array([3.0, 5.0, 4.0, 8.0, 1.0])
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert answers.interval([values]) == pytest.approx((values.mean(), *expected))
    other = np.array([-1.0, 0.0, 0.5])
    welch = stats.ttest_ind(values, -other, equal_var=False).confidence_interval()
    assert answers.interval([values, other]) == pytest.approx((2.0166667, welch.low / 2, welch.high / 2))


def test_sizes_of_one_replicate_count_once():
    """They share demonstrations and starts: twice the same numbers are no more evidence than once."""
    once = {("lift", 3): {0: 1.0, 1: 5.0, 2: 3.0}}
    twice = once | {("lift", 5): {0: 1.0, 1: 5.0, 2: 3.0, 3: 9.0}}
    assert answers.by_task(twice)["lift"].tolist() == answers.by_task(once)["lift"].tolist() == [1, 5, 3]


def test_a_row_of_fewer_tries_tells_one_try_but_not_what_is_ever_solved(results):
    results([*cells(4), *cells(4, size=3, tries=2)])
    assert asked("PostBC against BC, one try").endswith("less")
    assert asked("PostBC against BC, starts ever solved") == "too few"
    assert answers.cell(answers.complete()["lift", 3], "bc").endswith("/ – (1.00)")
