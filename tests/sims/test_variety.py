"""Two ways round a disc are two modes; one person alone has one, and less spread."""

import numpy as np
import pytest

from postbc.sims import get_task
from postbc.sims.demonstrators.recording import Episode, play
from postbc.sims.demonstrators.variety import variety

TASK = get_task("reach")


@pytest.fixture(scope="module")
def records() -> list:
    """What is seen from the start until the disc is passed, on both ways."""
    env, seen = TASK.make(), []
    for k, factory in enumerate(TASK.operators().values()):
        seen += play(env, factory(np.random.default_rng(k), 1.0), Episode("", k), 10).obs
    return seen


def test_a_pool_varies_more_than_one_person(records: list):
    pool = variety(TASK, ["above", "below"], records)
    for alone in (variety(TASK, [who], records) for who in ("above", "below")):
        assert pool.spread > 1.5 * alone.spread
        assert pool.modes > alone.modes + 0.3
        assert alone.modes < 1.5


def test_who_never_errs_does_not_vary(records: list):
    alone = variety(TASK, ["above"], records, scale=0.0)
    assert alone.spread == pytest.approx(0, abs=1e-6)
    assert alone.modes == 1
