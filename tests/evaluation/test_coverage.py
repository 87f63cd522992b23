"""Several tries from the same starts."""

from dataclasses import replace
from itertools import product
from math import comb

import h5py
import numpy as np
import pytest
import torch
from toy import toy_episode

from postbc.cli.coverage import held_out_frames
from postbc.config import Config, IngestConfig, Method, PretrainConfig
from postbc.demos.frames import stack_frames
from postbc.evaluation.coverage import Covered, against_demonstrations, best_of, compare, cover
from postbc.evaluation.rollouts import LatentStreams
from postbc.policies.policy import Latent, Policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.targets import Targets
from postbc.sims import get_task
from postbc.sims.demonstrators.collect import Recipe, collect, default_task
from postbc.sims.demonstrators.recording import Episode, play
from postbc.sims.starts import DEMONSTRATIONS, EVALUATION, ROBOT, seeds
from postbc.sims.tasks.reach import operators
from postbc.sims.vector import ChunkEnvs
from postbc.storage.checkpoint import Checkpoints

LIMIT = 40  # control steps
CONFIG = PretrainConfig(hidden=32, layers=2, denoising_steps=20, inference_steps=4, steps=300, batch=64, ema=0.9)


def test_best_of_n_counts_subsets():
    """Against the definition: the share of all subsets of n tries that hold a success."""
    success = np.random.default_rng(0).random((5, 6)) < 0.3
    from itertools import combinations

    for n, found in enumerate(best_of(success, 6), 1):
        subsets = list(combinations(range(6), n))
        assert len(subsets) == comb(6, n)
        assert found == pytest.approx(np.mean([success[:, s].any(1).mean() for s in subsets]))


def test_a_solved_start_is_not_played_on(policy):
    """The same answers as from all tries, but for the best of few, which fewer tries tell less sharply."""
    starts, vector = seeds(EVALUATION, 0, 12), ChunkEnvs(get_task("reach").make, 2, LIMIT).vector(4)
    full, short = (cover(policy, vector, starts, 6, "x", least) for least in (None, 2))
    vector.close()
    assert full.solved.tolist() == short.solved.tolist()
    assert full.solved.sum() > 0
    assert np.array_equal(full.success[:, :2], short.success[:, :2])
    assert np.array_equal(full.rewards[:, :2], short.rewards)
    solved = short.success[:, :2].any(1)
    assert solved.any()
    assert not short.success[solved, 2:].any()
    first = [full.success[:, :n].any(1).mean() for n in range(1, 7)]
    assert best_of(short.success, 2)[1:] == pytest.approx(first[1:])


@pytest.fixture(scope="module")
def shown():
    """Frames of the task's own operators, two ways round the disc."""
    env, episodes = get_task("reach").make(), []
    for number, way in product(range(3), operators().values()):
        operator = way(np.random.default_rng(number), 0.3)
        episode = play(env, operator, Episode("", seeds(DEMONSTRATIONS, 0, 3)[number]), 40).arrays()
        episodes.append((episode["obs/position"], episode["obs/goal"], episode["actions"], None))
    return stack_frames(episodes, 10)


@pytest.fixture(scope="module")
def policy(shown, tmp_path_factory):
    checkpoints = Checkpoints(tmp_path_factory.mktemp("p") / "c", "x")
    return pretrain(Targets(shown, 2, Method.BC), CONFIG, 0, checkpoints)[0]


def test_every_try_from_every_start_has_latent_noise_of_its_own():
    starts = np.array([*seeds(EVALUATION, 0, 64), *seeds(EVALUATION, 1, 64), *seeds(ROBOT, 0, 64)])
    drawn = torch.stack([LatentStreams(3, attempt).draw(starts) for attempt in range(32)]).flatten(0, 1)
    assert len(drawn.unique(dim=0)) == 32 * len(starts)
    assert abs(float(drawn.mean())) < 0.03
    assert abs(float(drawn.std()) - 1) < 0.03


def test_tries_are_the_same_however_many_environments(policy):
    starts, found = seeds(EVALUATION, 0, 6), []
    for workers in (1, 4):
        vector = ChunkEnvs(get_task("reach").make, 2, LIMIT).vector(workers)
        found.append(cover(policy, vector, starts, 5, "x"))
        vector.close()
    assert np.array_equal(found[0].success, found[1].success)
    assert np.array_equal(found[0].zero, found[1].zero)
    assert found[0].success.shape == (6, 5)


def test_the_first_try_is_what_the_evaluation_plays(policy):
    from postbc.evaluation.rollouts import evaluate

    vector, starts = ChunkEnvs(get_task("reach").make, 2, LIMIT).vector(2), seeds(EVALUATION, 0, 6)
    covered = cover(policy, vector, starts, 2, "x")
    once = [o.success for o in evaluate(policy, vector, starts, "y")]
    zero = [o.success for o in evaluate(Policy(policy.model, Latent.ZERO), vector, starts, "y")]
    vector.close()
    assert covered.success[:, 0].tolist() == once
    assert covered.zero.tolist() == zero


def test_energy_is_smallest_for_the_demonstrators_own_actions(policy, shown):
    close = against_demonstrations(policy, shown)
    away = replace(shown, action=shown.action + 0.3)
    assert close["energy"] < against_demonstrations(policy, away)["energy"]
    assert close["spread"] > 0


def test_methods_are_compared_start_by_start():
    solved = np.zeros((8, 4), bool)
    solved[:4, 1] = True
    table = compare(
        {
            "bc": Covered(solved[::-1] & False, np.zeros(8, bool), np.zeros((8, 4)), np.zeros(8)),
            "postbc": Covered(solved, solved[:, 0], 0.5 * solved, 0.25 * solved[:, 1]),
        }
    )
    assert table["methods"]["postbc"]["value"] == table["methods"]["postbc"]["best_of"][-1] == 0.5
    assert table["methods"]["bc"]["best_of"] == [0.0] * 4
    assert table["methods"]["postbc"]["mean_max_reward"] == 1 / 16  # 4 of 32 tries, half a reward each
    assert table["methods"]["postbc"]["best_reward"] == 1 / 4
    assert table["methods"]["postbc"]["zero_reward"] == 1 / 8
    assert table["difference"]["low"] > 0
    assert table["measure"] == "Starts solved at least once in 4 tries"


def test_recordings_are_stacked_as_a_data_set_would_be(dataset):
    from postbc.demos.frames import load_frames

    stored = load_frames(dataset)
    episodes = [toy_episode(n, 8 + n) for n in range(4)]
    ours = stack_frames([(e.obs["position"], e.obs["goal"], e.action, None) for e in episodes], 10)
    for name in ("obs", "action", "episode", "last"):
        assert torch.equal(getattr(ours, name), getattr(stored, name))


def test_held_out_recordings_are_read_as_the_ingest_reads_them(tmp_path):
    path = tmp_path / "demos.hdf5"
    collect(Recipe.of(default_task("reach"), None, 0, 1.0), path, 3, 1)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["obs"].move("position", "joints")
    ingest = IngestConfig(source=str(path), max_episodes=1, keys={"joints": "position"})
    held_out = held_out_frames(Config(task=default_task("reach"), ingest=ingest))
    assert held_out.episodes == 2
