"""Pieces of DPPO against closed forms."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_task import CHUNK, SHAPE

from postbc.config import DppoConfig, FinetuneConfig
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import continue_from, save_finetuned
from postbc.finetune.dppo import RewardScale, Rollout, advantages, clip_schedule, step_weights, surrogate
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.flow import FlowPolicy
from postbc.sims.vector import Transition

CONFIG = FinetuneConfig(
    algorithm="dppo",
    initial_steps=0,
    envs=3,
    hidden=16,
    layers=1,
    dppo=DppoConfig(steps=3, min_std=0.15, min_log_std=0.2),
)
TWO = replace(CONFIG, dppo=replace(CONFIG.dppo, steps=2))
KINDS = {"diffusion": DiffusionPolicy, "flow": FlowPolicy}


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_those_of_the_gaussians_that_are_drawn_from(kind):
    learner = build_learner(KINDS[kind](replace(SHAPE, inference_steps=4, kind=kind)).eval(), CONFIG, 0)
    obs = torch.randn(5, 2)
    choice, chunk = learner.act(obs, False)
    chain = choice.unflatten(1, (4, CHUNK))
    condition = learner.model.condition(learner.model.observer(obs), None)
    found = learner.log_probs(learner.model.observer(obs), chain, (0, 1, 2))
    for j in range(3):
        mean = learner.tunable.step(chain[:, j], 1 + j, condition, noisy=True)
        std = max(learner.tunable.std(1 + j), 0.2)
        exact = torch.distributions.Normal(mean, std).log_prob(chain[:, j + 1]).clamp(-5, 2).mean(1)
        assert torch.allclose(found[:, j], exact, atol=1e-5)
    assert torch.equal(chunk, learner.model.raw(chain[:, -1].clamp(-1, 1)))


@torch.no_grad()
def test_what_is_played_varies_as_much_as_it_says():
    learner = build_learner(DiffusionPolicy(replace(SHAPE, inference_steps=4)).eval(), CONFIG, 0)
    obs = torch.zeros(1, 2).expand(20_000, -1)
    chain = learner.act(obs, False)[0].unflatten(1, (4, CHUNK))
    condition = learner.model.condition(learner.model.observer(obs), None)
    for j in range(3):
        noise = chain[:, j + 1] - learner.tunable.step(chain[:, j], 1 + j, condition, noisy=True)
        expected = max(learner.tunable.std(1 + j), 0.15)
        assert abs(float(noise.std()) / expected - 1) < 0.02
        assert abs(float(noise.mean())) < 0.01 * max(1, expected)


def test_noisy_steps_are_those_of_the_reverse_process_where_every_step_is_visited():
    """DDPM's posterior q(x_{t-1} | x_t, x_0), Ho et al. 2020, eq. 6 and 7."""
    policy = DiffusionPolicy(replace(SHAPE, denoising_steps=10, inference_steps=10)).eval()
    x, obs = 0.3 * torch.randn(4, CHUNK), torch.randn(4, 2)
    condition = policy.condition(policy.observer(obs), None)
    for number, t in enumerate(policy.timesteps[:-1]):
        level, before = float(policy.alphas[t]), float(policy.alphas[t - 1])
        alpha = level / before
        epsilon = policy.network(x, torch.full((4,), float(t)), condition)
        clean = ((x - math.sqrt(1 - level) * epsilon) / math.sqrt(level)).clamp(-1, 1)
        mean = (math.sqrt(before) * (1 - alpha) * clean + math.sqrt(alpha) * (1 - before) * x) / (1 - level)
        assert torch.allclose(policy.step(x, number, condition, noisy=True), mean, atol=1e-5)
        assert policy.std(number) ** 2 == pytest.approx((1 - before) / (1 - level) * (1 - alpha), rel=1e-5)


def test_advantages_against_the_definition():
    random = torch.Generator().manual_seed(0)
    steps, envs, gae = 7, 3, 0.9
    reward, value, following = (torch.randn(steps, envs, generator=random) for _ in range(3))
    discount = 0.8 + 0.2 * torch.rand(steps, envs, generator=random)
    over = torch.rand(steps, envs, generator=random) < 0.3
    terminated = over & (torch.rand(steps, envs, generator=random) < 0.5)
    bootstrap = discount * (~terminated)
    empty = torch.zeros(steps, envs, 1)
    found = advantages(Rollout(empty, empty[..., None], reward, bootstrap, empty, over), value, following, gae)
    for env in range(envs):
        for t in range(steps):
            total, weight = 0.0, 1.0
            for k in range(t, steps):
                ends = bool(terminated[k, env])
                delta = reward[k, env] + (0 if ends else discount[k, env] * following[k, env]) - value[k, env]
                total += weight * float(delta)
                if over[k, env]:
                    break
                weight *= float(discount[k, env]) * gae
            assert float(found[t, env]) == pytest.approx(total, abs=1e-4)


def test_the_clip_grows_from_the_noisy_steps_to_the_last():
    clips = clip_schedule(DppoConfig(steps=5, clip=0.01, clip_base=0.001, clip_rate=3))
    assert clips[0] == pytest.approx(0.001)
    assert clips[-1] == pytest.approx(0.01)
    assert (clips.diff() > 0).all()
    assert clips[2] == pytest.approx(0.001 + 0.009 * (math.exp(1.5) - 1) / (math.exp(3) - 1))
    assert clip_schedule(DppoConfig(steps=1)).tolist() == pytest.approx([0.01])


def test_the_surrogate_by_hand():
    assert step_weights(DppoConfig(steps=3, denoising_discount=0.9)).tolist() == pytest.approx([0.81, 0.9, 1.0])
    clips = torch.tensor([0.1, 0.2])
    for ratio, advantage, expected in (
        ([1.05, 1.5], [2.0, 2.0], -(2.1 + 2.4) / 2),  # a gain beyond the clip does not count
        ([0.5, 0.9], [2.0, 2.0], -(1.0 + 1.8) / 2),  # a loss does
        ([1.5, 1.05], [-1.0, -1.0], (1.5 + 1.05) / 2),
        ([0.5, 0.95], [-1.0, -1.0], (0.9 + 0.95) / 2),
    ):
        found = surrogate(torch.tensor([ratio]), torch.tensor([advantage]), clips)
        assert float(found) == pytest.approx(expected)


def test_an_improvement_makes_what_went_well_likelier():
    config = replace(CONFIG, batch=4096, dppo=replace(CONFIG.dppo, epochs=1, critic_warmup=0, rollout=2))
    learner = build_learner(DiffusionPolicy(replace(SHAPE, inference_steps=4)).eval(), config, 0)
    random = torch.Generator().manual_seed(0)
    features = learner.model.observer(torch.randn(6, 2, generator=random))
    chain = learner.act(torch.randn(6, 2, generator=random), False)[0].unflatten(1, (4, CHUNK))
    reward = torch.tensor([[3.0, 0, 0], [0, 0, 0]])
    rollout = Rollout(
        features.unflatten(0, (2, 3)), chain.unflatten(0, (2, 3)), reward, torch.zeros(2, 3),
        features.unflatten(0, (2, 3)), torch.ones(2, 3, dtype=torch.bool),
    )  # fmt: skip
    before = learner.log_probs(features, chain, (0, 1, 2)).sum(1).detach()
    learner._improve(rollout)
    rise = learner.log_probs(features, chain, (0, 1, 2)).sum(1).detach() - before
    assert float(rise[0]) > 0
    assert int(rise.argmax()) == 0


def test_rewards_are_scaled_by_the_spread_of_their_discounted_sums():
    random, scale, sums, seen = np.random.default_rng(0), RewardScale(2), np.zeros(2), []
    for _ in range(50):
        reward, discount, over = random.random(2), np.full(2, 0.9), random.random(2) < 0.1
        scale.update(torch.tensor(reward), torch.tensor(discount), torch.tensor(over))
        sums = sums * discount + reward
        seen.extend(sums)
        sums[over] = 0
    assert scale.std == pytest.approx(np.std(seen), rel=1e-5)
    assert RewardScale(1).std == 1


def test_the_scale_of_rewards_is_gone_on_with_as_the_value_is(tmp_path):
    model = DiffusionPolicy(SHAPE)
    learner, robot, fresh = (build_learner(copy.deepcopy(model), replace(TWO, envs=envs), 0) for envs in (3, 1, 1))
    learner.scale.update(torch.tensor([1.0, 5.0, 3.0]), torch.ones(3), torch.zeros(3, dtype=torch.bool))
    save_finetuned(learner, 0, tmp_path / "f")
    continue_from(robot, tmp_path / "f")
    assert robot.scale.std == learner.scale.std == pytest.approx(np.std([1, 5, 3]))
    assert robot.scale.sums.tolist() == [0]
    weights = {name: own for name, own in learner.weights().items() if name != "scale"}
    fresh.continue_from(learner.policy(), weights)  # of a folder from before they went together
    assert fresh.scale.std == 1


def test_where_the_environments_begin_anew_no_advantage_is_carried_over():
    learner = build_learner(DiffusionPolicy(replace(SHAPE, inference_steps=4)).eval(), CONFIG, 0)
    learner.scale.sums += 1
    learner.cut()  # a rollout that was learned from has ended just before
    assert not learner.scale.sums.any()
    for name in learner.played:
        learner.played[name] = [torch.zeros(3, dtype=torch.bool)] * 2
    learner.cut()
    assert [bool(row.all()) for row in learner.played["over"]] == [False, True]


def played(scale):
    """What a learner says after two chunks in each of three environments whose rewards are ``scale`` times as large."""
    config = replace(CONFIG, batch=4096, dppo=replace(CONFIG.dppo, epochs=1, critic_warmup=1, rollout=2))
    learner = build_learner(DiffusionPolicy(replace(SHAPE, inference_steps=4)).eval(), config, 0)
    obs = np.random.default_rng(0).standard_normal((3, 3, 2)).astype(np.float32)
    for t in range(2):
        choice, _ = learner.act(torch.from_numpy(obs[t]), False)
        flags, rewards = np.zeros(3, bool), scale * np.array([3.0, 1.0, 2.0 * t])
        step = Transition(
            np.zeros((3, 2)), obs[t + 1], rewards, flags, flags, np.full(3, 4), flags, rewards, np.arange(3)
        )
        learner.store(torch.from_numpy(obs[t]), choice, step)
        assert torch.equal(learner.played["obs"][t], learner.model.observer(torch.from_numpy(obs[t])))
        assert torch.equal(learner.played["following"][t], learner.model.observer(torch.from_numpy(obs[t + 1])))
    return learner.learn(2)


def test_a_rollout_of_one_chunk_is_no_divergence():
    config = replace(TWO, envs=1, dppo=replace(TWO.dppo, rollout=1))
    learner = build_learner(DiffusionPolicy(SHAPE), config, 0)
    choice, _ = learner.act(torch.zeros(1, 2), False)
    obs, flags, numbers = np.zeros((1, 2), np.float32), np.zeros(1, bool), np.ones(1)
    step = Transition(obs, obs, numbers, flags, flags, numbers, flags, numbers, numbers)
    learner.store(torch.zeros(1, 2), choice, step)
    assert all(map(math.isfinite, learner.learn(1).values()))


def test_a_rollout_knows_what_followed_and_the_scale_of_rewards_does_not_matter():
    small, large = played(1.0), played(100.0)
    assert large["reward_std"] == pytest.approx(100 * small["reward_std"])
    assert large["value_loss"] == pytest.approx(small["value_loss"])


def test_what_ends_at_a_time_limit_is_over_and_goes_on_in_value():
    learner = build_learner(DiffusionPolicy(replace(SHAPE, inference_steps=4)).eval(), CONFIG, 0)
    obs = torch.zeros(3, 2)
    choice, _ = learner.act(obs, False)
    ends, limits = np.array([True, False, False]), np.array([False, True, False])
    zeros, steps = np.zeros((3, 2), np.float32), np.full(3, 2)
    learner.store(
        obs, choice, Transition(zeros, zeros, np.zeros(3), ends, limits, steps, ends, np.zeros(3), np.arange(3))
    )
    assert learner.played["over"][0].tolist() == [True, True, False]
    assert learner.played["bootstrap"][0].tolist() == pytest.approx([0.0, CONFIG.discount**2, CONFIG.discount**2])
