from functools import partial

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from postbc.evaluation.lives import Candidate, evaluate_all
from postbc.evaluation.rollouts import Outcome, difference, evaluate, summary
from postbc.evaluation.statistics import paired_difference, wilson
from postbc.evaluation.video import film
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.policies.policy import Latent, Policy
from postbc.sims import get_task
from postbc.sims.stepping import Stepping
from postbc.sims.vector import ChunkEnvs


@pytest.fixture(scope="module")
def task():
    return get_task("reach")


@pytest.fixture(scope="module")
def policy(task):
    torch.manual_seed(0)
    env = task.make()
    shape = PolicyShape(env.shape, 2, 2, 16, 1, 10, 3)
    return Policy(DiffusionPolicy(shape), Latent.SAMPLE).eval()


class Going:
    """Straight to the goal, at a share of the speed."""

    normal_dim = 1

    def __init__(self, speed):
        self.speed = speed

    def act(self, obs, normal):
        way = (obs[:, 2:4] - obs[:, :2]) / 0.08
        return (self.speed * way.clamp(-1, 1))[:, None].expand(-1, 2, -1)


def outcomes_of(successes):
    return [Outcome(n, success, n / 2, n + 1) for n, success in enumerate(successes)]


def test_wilson_against_published_values():
    # Newcombe (1998), table I: 81 of 263, and 0 of 20.
    assert np.allclose(wilson(81, 263), (0.2553, 0.3662), atol=5e-5)
    assert np.allclose(wilson(0, 20), (0, 0.1611), atol=5e-5)
    assert wilson(20, 20)[1] == 1


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate(case):
    low, high = wilson(*case)
    assert 0 <= low <= case[0] / case[1] <= high <= 1


def pairs(both, only_a, only_b, neither):
    rows = [(1, 1)] * both + [(1, 0)] * only_a + [(0, 1)] * only_b + [(0, 0)] * neither
    return (np.array(column, bool) for column in zip(*rows, strict=True))


def test_paired_difference_against_published_values():
    # Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
    # data", table of method 10: (36, 12, 2, 0) gives 0.20 with 0.0569 to 0.3404.
    b, a = pairs(36, 12, 2, 0)
    value, low, high = paired_difference(a, b)
    assert np.allclose((value, low, high), (0.20, 0.0569, 0.3404), atol=5e-4)


def test_equal_outcomes_differ_by_nothing():
    a, b = pairs(5, 0, 0, 5)
    value, low, high = paired_difference(a, b)
    assert value == 0
    assert low <= 0 <= high


def test_outcomes_that_agree_make_a_difference_surer():
    """The same 25 of 50 each: pairs that agree more than by chance, as from the same starts, by chance, and less."""
    widths = []
    for a, b in (pairs(20, 5, 5, 20), pairs(13, 12, 12, 13), pairs(5, 20, 20, 5)):
        _, low, high = paired_difference(a, b)
        widths.append(high - low)
    assert widths[0] < 0.8 * widths[1] < 0.8 * widths[2] * 0.95


def test_the_difference_is_postbc_minus_bc(task):
    never, sometimes = (outcomes_of([False, False, False]), outcomes_of([True, False, True]))
    assert difference(never, sometimes)["success"] == pytest.approx(2 / 3)
    assert summary(sometimes) | {"low": 0, "high": 0} == {
        "success": pytest.approx(2 / 3), "low": 0, "high": 0, "episodes": 3, "mean_max_reward": 0.5, "mean_steps": 2.0,
    }  # fmt: skip
    vector = ChunkEnvs(task.make, 2, 40).vector(2)
    idle, going = Going(0.0), Going(1.0)
    table = evaluate_all(
        [Candidate("p", "bc", idle, 0), Candidate("p", "postbc", going, 0)], vector, None, list(range(12))
    )
    vector.close()
    assert table["p"]["postbc"]["success"] > table["p"]["bc"]["success"] == 0
    assert table["difference"]["p"]["success"] == pytest.approx(table["p"]["postbc"]["success"])


def test_an_episode_does_not_depend_on_how_many_run_beside_it(task, policy):
    starts = list(range(17))
    results = []
    for n in (1, 3, 5):
        vector = ChunkEnvs(task.make, 2, 40).vector(n)
        results.append(evaluate(policy, vector, starts, "test"))
        results.append(evaluate(policy, vector, starts, "again"))
        vector.close()
    assert all(r == results[0] for r in results)
    assert [o.seed for o in results[0]] == starts
    assert all(o.steps == 40 or o.success for o in results[0])


def test_every_way_of_stepping_gives_the_same(task, policy):
    vectors = [ChunkEnvs(partial(task.make), 2, 40, stepping).vector(2) for stepping in Stepping]
    inside, *others = (evaluate(policy, vector, list(range(4)), "test") for vector in vectors)
    for vector in vectors:
        vector.close()
    assert all(other == inside for other in others)
    table = summary(inside)
    assert table["episodes"] == 4
    assert table["low"] <= table["success"] <= table["high"]
    assert difference(inside, inside)["success"] == 0


def test_a_video_plays_as_long_as_the_episode(task, policy, tmp_path):
    env = task.make()
    for name in ("a.mp4", "b.mp4"):
        film(policy, env, 3, 20, tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        images = list(container.decode(video=0))
        assert 2 <= len(images) <= 11
        assert images[0].to_ndarray(format="rgb24").std() > 0
