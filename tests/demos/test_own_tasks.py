"""Demonstrations of the project's own tasks in every format, through everything that an ingest asks of them, and out again."""

import numpy as np
import pytest
from recordings import WRITERS

from postbc.config import TaskConfig
from postbc.demos.checks import Checker, Expected, Severity
from postbc.demos.convert import View, convert
from postbc.demos.ingest import ingest
from postbc.demos.preparation import Preparation
from postbc.demos.readers import find_sources
from postbc.demos.store import read_store
from postbc.sims import get_task
from postbc.sims.demonstrators.collect import Recipe, collect

REACH = get_task("reach")
FPS = 10


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """Three episodes of the task's operators."""
    path = tmp_path_factory.mktemp("reach") / "demos.hdf5"
    collect(Recipe.of(TaskConfig(name="reach", env="reach", fps=FPS, max_steps=80)), path, 3)
    return list(find_sources(path)[0].episodes())


def taken(path, store):
    checker = Checker(Expected(FPS, REACH.action_low, REACH.action_high, REACH.describe({})))
    ingest(find_sources(path), store, checker, None, Preparation(fit=lambda obs, _: REACH.observe(obs)))
    return list(read_store(store))


@pytest.mark.parametrize("name", WRITERS)
def test_the_task_takes_its_own_demonstrations_from_every_format(name, demonstrated, tmp_path):
    (tmp_path / "data").mkdir()
    WRITERS[name](tmp_path / "data" / name, demonstrated)
    for stored, shown in zip(taken(tmp_path / "data", tmp_path / "store"), demonstrated, strict=True):
        assert np.array_equal(stored.action, shown.action)
        for ours, theirs in zip(REACH.observe(stored.obs), REACH.observe(shown.obs), strict=True):
            assert np.array_equal(ours, theirs)


def test_what_went_out_as_a_lerobot_dataset_comes_back(demonstrated, tmp_path):
    convert(iter(demonstrated), 3, tmp_path / "set", View(FPS, "Go there.", REACH.observe))
    for back, shown in zip(find_sources(tmp_path / "set")[0].episodes(), demonstrated, strict=True):
        state, environment = REACH.observe(shown.obs)
        assert np.array_equal(back.obs["state"], state)
        assert environment.shape[1] == 0 or np.array_equal(back.obs["environment_state"], environment)
        for key in ("action", "reward", "success"):
            assert np.array_equal(getattr(back, key), getattr(shown, key))
        assert (back.facts["fps"], back.facts["task"]) == (FPS, "Go there.")


def test_the_task_finds_no_error_in_them(demonstrated):
    checker = Checker(Expected(FPS, REACH.action_low, REACH.action_high, REACH.describe({})))
    found = [one for episode in demonstrated for one in checker.add(episode, episode.facts["name"])] + checker.finish()
    assert [one for one in found if one.severity is Severity.ERROR] == []
