"""Two ways round a disc are two modes; one person alone has one, and less spread."""

from itertools import count, islice

import numpy as np

from postbc.config import TaskConfig
from postbc.sims import get_task
from postbc.sims.collect import Recipe
from postbc.sims.variety import variety

REACH = TaskConfig(name="reach", env="reach", fps=10, max_steps=80)


def episodes(n: int, *operators: str) -> list:
    recipe, env = Recipe.of(REACH, operators or None), get_task("reach").make()
    attempts = (recipe.attempt(env, k) for k in count())
    return list(islice((episode for episode in attempts if episode.success), n))


def test_a_pool_varies_more_than_one_person():
    pool, alone = variety(get_task("reach"), episodes(16)), variety(get_task("reach"), episodes(16, "above"))
    assert pool.spread > 1.5 * alone.spread
    assert pool.modes > alone.modes
    assert alone.modes < 1.5


def test_people_who_act_alike_do_not_vary():
    one = episodes(1, "above")[0]
    same = variety(get_task("reach"), [one, one, one])
    assert same.spread == 0
    assert np.isclose(same.modes, 1)
