import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from postbc.config import DppoConfig, FinetuneConfig
from postbc.errors import IntegrityError
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import continue_from, env_steps, save_finetuned
from postbc.finetune.critics import load_critics
from postbc.finetune.dsrl import Dsrl
from postbc.finetune.replay import Batch, Replay, to_batch
from postbc.observation import ObsShape
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.sims.vector import Transition
from postbc.storage.checkpoint import Checkpoints

CONFIG = FinetuneConfig(env_steps=100, initial_steps=0, hidden=16, layers=1, batch=8, buffer=64)


def policy():
    return DiffusionPolicy(PolicyShape(ObsShape(2, 2), 2, 3, 16, 1, 10, 3))


@pytest.fixture
def learner():
    return Dsrl(policy(), CONFIG, 0)


def batch(count, offset=0.0):
    number = torch.arange(count).float() + offset
    wide = number[:, None]
    return Batch(wide.expand(-1, 4), wide.expand(-1, 6) / 10, number, torch.full((count,), 0.9), wide.expand(-1, 4) + 1)


def test_the_replay_keeps_the_newest():
    replay = Replay(5, 4, 6)
    replay.add(batch(3))
    replay.add(batch(4, 10.0))
    drawn = replay.sample(500, torch.Generator().manual_seed(0))
    assert set(drawn.reward.tolist()) == {2, 10, 11, 12, 13}
    assert torch.equal(drawn.following[:, 0], drawn.obs[:, 0] + 1)
    other = Replay(5, 4, 6)
    other.restore(replay.state())
    again = other.sample(500, torch.Generator().manual_seed(0))
    assert torch.equal(again.reward, drawn.reward)


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_the_shift_costs_one_a_step(discount):
    def shifted(rewards, steps):
        count, flags = len(steps), np.zeros(len(steps), bool)
        zeros, seeds = np.zeros((count, 2), np.float32), np.arange(count)
        step = Transition(zeros, zeros, np.array(rewards), flags, flags, np.array(steps), flags, np.zeros(count), seeds)
        return to_batch(torch.zeros(count, 2), torch.zeros(count, 2), step, discount, 1.0).reward

    by_hand = torch.tensor([-sum(discount**i for i in range(n)) for n in (1, 3, 4)])
    assert torch.allclose(shifted([0.0, 0.0, 0.0], [1, 3, 4]), by_hand)
    success_at_third = shifted([discount**2], [3])
    assert torch.allclose(success_at_third, torch.tensor([-1 - discount]))  # the step that succeeds costs nothing


def disturb(module):
    """Other weights than those that it was copied from."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))


def test_the_critics_target_by_hand(learner):
    some = batch(8)
    torch.manual_seed(0)
    disturb(learner.target.twin)
    state = learner.generators["update"].get_state()
    target = learner.critic_target(some, torch.tensor(0.3))
    learner.generators["update"].set_state(state)
    normal = some.following
    latent, log_prob = learner.actor.sample(normal, learner.generators["update"])
    values = torch.stack([h(torch.cat([normal, latent], 1)).squeeze(1) for h in learner.target.twin.heads])
    by_hand = some.reward + 0.9 * (values.min(0).values - 0.3 * log_prob)
    assert torch.allclose(target, by_hand)


def test_the_noise_aliased_target_values_the_chunk_that_the_noise_means():
    learner = build_learner(policy(), replace(CONFIG, algorithm="dsrl_na"), 0)
    some = batch(8)
    disturb(learner.target_of_actions.twin)
    disturb(learner.actor)
    state = learner.generators["update"].get_state()
    target = learner.critic_target(some, torch.tensor(0.3))
    learner.generators["update"].set_state(state)
    latent, log_prob = learner.actor.sample(some.following, learner.generators["update"])
    chunk = learner.model.normalise(learner.model.generate(some.following, latent))
    values = learner.target_of_actions.twin(some.following, chunk)
    by_hand = some.reward + 0.9 * (values.amin(0) - 0.3 * log_prob)
    assert torch.allclose(target, by_hand, atol=1e-6)


def test_best_of_n_learns_from_its_target_and_only_from_what_was_played():
    learner = build_learner(policy(), replace(CONFIG, algorithm="best_of_n", expectile=0.8), 0)
    disturb(learner.target.twin)
    learner.replay.add(batch(20))
    state = learner.generators["replay"].get_state()
    drawn = learner.replay.sample(CONFIG.batch, learner.generators["replay"])
    learner.generators["replay"].set_state(state)
    u = learner.target.twin(drawn.obs, drawn.choice).amin(0) - learner.value(drawn.obs).squeeze(1)
    by_hand = torch.stack([(0.8 if x > 0 else 0.2) * x * x for x in u]).mean()
    metrics = learner.update()
    assert metrics["value_loss"] == pytest.approx(float(by_hand.detach()), rel=1e-5)
    assert metrics["advantage"] == pytest.approx(float(u.mean().detach()), rel=1e-5)


def test_an_update_moves_everything_but_the_frozen_policy(learner):
    learner.replay.add(batch(20))
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    critics = [p.clone() for p in learner.critics.parameters()]
    target = [p.clone() for p in learner.target.parameters()]
    metrics = learner.update()
    assert all(map(math.isfinite, metrics.values()))
    assert all(torch.equal(v, before[k]) for k, v in learner.model.state_dict().items())
    for old, new, slow, followed in zip(
        critics, learner.critics.parameters(), target, learner.target.parameters(), strict=True
    ):
        assert torch.allclose(followed, slow + CONFIG.tau * (new - slow), atol=1e-7)
        assert not torch.equal(old, new) or old.numel() == 1


def test_a_restored_learner_goes_on_exactly(learner, tmp_path):
    learner.replay.add(batch(20))
    for _ in range(5):
        learner.update()
    checkpoints = Checkpoints(tmp_path / "c", "test")
    checkpoints.save({"learner": learner.state()})
    other = Dsrl(learner.model, CONFIG, 99)
    other.restore(checkpoints.load()["learner"])
    assert [learner.update() for _ in range(5)] == [other.update() for _ in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(learner.actor.parameters(), other.actor.parameters(), strict=True))


def test_the_noise_is_bounded_and_exploring_is_clipped_normal(learner):
    obs = torch.randn(500, 4)
    explored, _ = learner.act(obs, exploring=True)
    assert explored.abs().max() == 1.5
    assert abs(explored.std() - 0.91) < 0.05  # of a normal clipped at 1.5
    played, chunk = learner.act(obs, exploring=False)
    assert played.abs().max() <= 1.5
    assert torch.equal(chunk, learner.model.sample(obs, played))


def test_first_the_noise_is_that_of_the_pretrained_policy_then_the_actors(learner, tmp_path):
    obs = torch.zeros(4000, 4)
    first, _ = learner.act(obs, True)
    bound = CONFIG.noise_bound
    clipped = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).clamp(-bound, bound)
    assert float(first.std()) == pytest.approx(float(clipped.std()), rel=0.02) and float(first.mean().abs()) < 0.05
    learner.actor.requires_grad_(False)
    for parameter in learner.actor.parameters():
        parameter.zero_()
    learner.continued = True  # as of a policy that has explored already
    features = learner.model.observer(obs)
    spread = float(learner.actor.sample(features, torch.Generator().manual_seed(0))[0].std())
    assert float(learner.act(obs, True)[0].std()) == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize("algorithm", ["dsrl", "dsrl_na", "best_of_n", "dppo"])
@pytest.mark.parametrize("dense", [False, True])
def test_a_task_that_pays_at_every_step_costs_a_step(algorithm, dense):
    learner = build_learner(policy(), replace(CONFIG, algorithm=algorithm, dppo=DppoConfig(steps=2)), 0, dense)
    assert learner.cost == (1.0 if dense or algorithm.startswith("dsrl") else 0.0)
    obs = torch.zeros(2, 4)
    choice, _ = learner.act(obs, False)
    flags, zeros = np.zeros(2, bool), np.zeros((2, 4), np.float32)
    learner.store(
        obs, choice, Transition(zeros, zeros, np.array([0.7, 0.2]), flags, flags, np.array([1, 1]), flags, flags, flags)
    )
    kept = learner.played["reward"][0] if algorithm == "dppo" else learner.replay._data["reward"][:2]
    assert kept.tolist() == pytest.approx([0.7 - learner.cost, 0.2 - learner.cost], abs=1e-5)


@pytest.mark.parametrize(("cost", "after"), [(0.0, [0.0, 0.0, 0.81]), (1.0, [0.0, 0.81, 0.81])])
def test_nothing_follows_a_success_nor_a_failure_where_steps_are_free(cost, after):
    """A success, a failure, a time limit."""
    ends, success, limits = (
        np.array([True, True, False]),
        np.array([True, False, False]),
        np.array([False, False, True]),
    )
    zeros, steps = np.zeros((3, 2), np.float32), np.full(3, 2)
    step = Transition(zeros, zeros, np.zeros(3), ends, limits, steps, success, np.zeros(3), np.arange(3))
    found = to_batch(torch.zeros(3, 2), torch.zeros(3, 2), step, 0.9, cost)
    assert found.bootstrap.tolist() == pytest.approx(after)


def test_an_environment_without_a_start_leaves_nothing_in_the_replay(learner):
    obs, flags, zeros = torch.ones(3, 4), np.zeros(3, bool), np.zeros((3, 4), np.float32)
    choice, _ = learner.act(obs, False)
    learner.store(
        obs, choice, Transition(zeros, zeros, np.zeros(3), flags, flags, np.array([2, 0, 3]), flags, flags, flags)
    )
    assert learner.replay.size == 2
    assert learner.replay._data["bootstrap"][:2].tolist() == pytest.approx([CONFIG.discount**2, CONFIG.discount**3])


def test_of_more_than_there_is_room_for_the_last_are_kept_whole():
    replay = Replay(256, 4, 6)
    replay.add(batch(1024))
    drawn = replay.sample(2000, torch.Generator().manual_seed(0))
    assert drawn.reward.min() >= 768
    assert torch.equal(drawn.obs[:, 0], drawn.reward)


def test_a_finetuned_folder_is_continued_from(learner, tmp_path):
    learner.replay.add(batch(20))
    learner.update()
    save_finetuned(learner, 123, tmp_path / "f")
    assert env_steps(tmp_path / "f") == 123
    fresh = Dsrl(learner.model, CONFIG, 5)
    continue_from(fresh, tmp_path / "f")
    obs, latent = torch.randn(3, 4), torch.randn(3, 6)
    assert torch.equal(fresh.critics(obs, latent), learner.critics(obs, latent))
    assert torch.equal(fresh.policy().act(obs), learner.policy().act(obs))
    assert fresh.continued and not learner.continued
    file = tmp_path / "f" / "critics" / "critics.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError):
        load_critics(tmp_path / "f" / "critics")
