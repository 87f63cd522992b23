"""Initial states for one purpose never serve another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postbc.errors import ConfigError
from postbc.sims import get_task
from postbc.sims.starts import RANGES, VERSION, WIDTH, nth_seed, seeds
from postbc.sims.task import SEED_LIMIT

RUNS = st.integers(0, 2**40)


@given(first=RUNS, second=RUNS, n=st.integers(0, 300))
def test_purposes_never_share_a_seed(first: int, second: int, n: int):
    chosen = [set(seeds(split, run, n)) for split, run in zip(RANGES, (first, second, first, second), strict=True)]
    assert len(set().union(*chosen)) == n * len(RANGES)
    assert all(0 <= seed < SEED_LIMIT for seed in set().union(*chosen))


@given(run=RUNS, n=st.integers(0, 300), more=st.integers(0, 300))
def test_few_are_the_beginning_of_many(run: int, n: int, more: int):
    assert seeds("evaluation", run, n + more)[:n] == seeds("evaluation", run, n)


def test_neighbouring_runs_do_not_meet():
    assert not set(seeds("training", 0, 5000)) & set(seeds("training", 1, 5000))


def test_impossible_requests_are_refused():
    with pytest.raises(ConfigError, match="demonstrations, training, evaluation, robot"):
        seeds("test", 0, 3)
    with pytest.raises(ConfigError):
        nth_seed("robot", 0, WIDTH)


@pytest.mark.parametrize("name", ["reach", "pick-place", "door-open"])
def test_metaworlds_initial_states_do_not_come_back(name: str):
    """Its benchmark draws from 50 fixed states a task: training on one and testing on it again would be easy."""
    env = get_task(f"metaworld/{name}").make()
    seen = [env.reset(seed=seed)[0]["environment_state"].tobytes() for split in RANGES for seed in seeds(split, 0, 40)]
    assert len(set(seen)) == len(seen)


def test_a_change_of_the_lists_needs_a_new_version():
    assert VERSION == 1
    assert [nth_seed(split, 3, 5) for split in RANGES] == [196613, 268632069, 537067525, 805502981]
