"""Several tries from the same starts."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest
import torch
from toy import make_frames, toy_episode

from postbc.config import Method, PretrainConfig
from postbc.demos.frames import stack_frames
from postbc.evaluation.coverage import Covered, against_demonstrations, best_of, compare, cover
from postbc.policies.policy import Latent, Policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.targets import Targets
from postbc.sims import get_task
from postbc.sims.starts import EVALUATION, seeds
from postbc.sims.vector import ChunkEnvs
from postbc.storage.checkpoint import Checkpoints

CONFIG = PretrainConfig(hidden=32, layers=2, denoising_steps=20, inference_steps=4, steps=300, batch=64, ema=0.9)


def test_best_of_n_counts_subsets():
    """Against the definition: the share of all subsets of n tries that hold a success."""
    success = np.random.default_rng(0).random((5, 6)) < 0.3
    from itertools import combinations

    for n, found in enumerate(best_of(success), 1):
        subsets = list(combinations(range(6), n))
        assert len(subsets) == comb(6, n)
        assert found == pytest.approx(np.mean([success[:, s].any(1).mean() for s in subsets]))


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    frames = make_frames([toy_episode(n) for n in range(6)])
    checkpoints = Checkpoints(tmp_path_factory.mktemp("p") / "c", "x")
    return pretrain(Targets(frames, 2, Method.BC), CONFIG, 0, checkpoints)[0]


def test_tries_differ_and_are_the_same_however_many_environments(policy):
    starts, found = seeds(EVALUATION, 0, 6), []
    for workers in (1, 4):
        vector = ChunkEnvs(get_task("reach").make, 2, 30).vector(workers)
        found.append(cover(policy, vector, starts, 5, "x"))
        vector.close()
    assert np.array_equal(found[0].success, found[1].success)
    assert np.array_equal(found[0].zero, found[1].zero)
    assert found[0].success.shape == (6, 5)


def test_the_first_try_is_what_the_evaluation_plays(policy):
    from postbc.evaluation.rollouts import evaluate

    vector, starts = ChunkEnvs(get_task("reach").make, 2, 30).vector(2), seeds(EVALUATION, 0, 6)
    covered = cover(policy, vector, starts, 2, "x")
    once = [o.success for o in evaluate(policy, vector, starts, "y")]
    zero = [o.success for o in evaluate(Policy(policy.model, Latent.ZERO), vector, starts, "y")]
    vector.close()
    assert covered.success[:, 0].tolist() == once
    assert covered.zero.tolist() == zero


def test_energy_is_smallest_for_the_demonstrators_own_actions(policy):
    frames = make_frames([toy_episode(n) for n in range(20, 24)])
    close = against_demonstrations(policy, frames)
    away = replace(frames, action=frames.action + 0.3)
    assert close["energy"] < against_demonstrations(policy, away)["energy"]
    assert close["spread"] > 0


def test_methods_are_compared_start_by_start():
    solved = np.zeros((8, 4), bool)
    solved[:4, 1] = True
    table = compare(
        {"bc": Covered(solved[::-1] & False, np.zeros(8, bool), 0.0), "postbc": Covered(solved, solved[:, 0], 0.5)}
    )
    assert table["methods"]["postbc"]["value"] == table["methods"]["postbc"]["best_of"][-1] == 0.5
    assert table["methods"]["bc"]["best_of"] == [0.0] * 4
    assert table["difference"]["low"] > 0
    assert table["measure"] == "Starts solved at least once in 4 tries"


def test_recordings_are_stacked_as_a_data_set_would_be(dataset):
    from postbc.demos.frames import load_frames

    stored = load_frames(dataset)
    episodes = [toy_episode(n, 8 + n) for n in range(4)]
    ours = stack_frames([(e.obs["position"], e.obs["goal"], e.action) for e in episodes], 10)
    for name in ("obs", "action", "episode", "last"):
        assert torch.equal(getattr(ours, name), getattr(stored, name))
