"""From latent noise to a chunk: which steps a sampler visits, and what it makes of what a policy has learned to vary."""

from dataclasses import replace

import pytest
import torch

from postbc.errors import IntegrityError
from postbc.observation import ObsShape
from postbc.policies.diffusion import DiffusionPolicy, squared_cosine
from postbc.policies.flow import FlowPolicy
from postbc.policies.folder import load_policy, save_policy
from postbc.policies.generative import PolicyShape
from postbc.policies.policy import Latent, Policy
from postbc.storage.atomic import read_json, write_json
from postbc.storage.manifest import write_manifest

SHAPE = PolicyShape(ObsShape(2, 2), 2, 3, 24, 2, 20, 5)


def test_the_schedule_falls_from_one_to_nearly_zero():
    alphas = squared_cosine(100)
    assert (alphas.diff() < 0).all()
    assert alphas[0] > 0.999
    assert alphas[-1] < 1e-4


def test_ddim_visits_even_steps_from_the_last_or_quadratic_ones_from_the_last_that_tells_something():
    def visited(**changes):
        return DiffusionPolicy(replace(SHAPE, **changes)).timesteps

    assert visited(spacing="even") == [19, 15, 11, 7, 3]
    assert visited() == [18, 10, 4, 1, 0]
    assert visited(denoising_steps=100, inference_steps=8) == [95, 70, 48, 31, 17, 8, 2, 0]
    assert visited(inference_steps=1) == [18]
    for count in range(2, 21):
        steps = visited(inference_steps=count)
        assert len(steps) == count and steps[-1] == 0 and steps == sorted(set(steps), reverse=True)
    assert visited(inference_steps=20) == visited(inference_steps=20, spacing="even") == list(range(19, -1, -1))
    alphas = squared_cosine(100)
    assert (alphas[95].rsqrt(), alphas[96].rsqrt()) == (pytest.approx(16.1, abs=0.1), pytest.approx(21.4, abs=0.1))


def test_a_folder_is_sampled_as_it_was_when_it_was_written(tmp_path):
    for spacing in ("even", "quadratic"):
        save_policy(Policy(DiffusionPolicy(replace(SHAPE, spacing=spacing)), Latent.SAMPLE), tmp_path / spacing)
        assert load_policy(tmp_path / spacing).model.shape.spacing == spacing
    config = read_json(tmp_path / "quadratic" / "config.json")
    for said, found in ((None, "even"), ("cubic", None)):  # of before there was a choice; of a version to come
        changed = {k: v for k, v in {**config, "spacing": said}.items() if v is not None or k != "spacing"}
        write_json(tmp_path / "quadratic" / "config.json", changed)
        write_manifest(tmp_path / "quadratic")
        if found:
            assert load_policy(tmp_path / "quadratic").model.shape.spacing == found
        else:
            with pytest.raises(IntegrityError, match="asks for 'cubic'"):
                load_policy(tmp_path / "quadratic")


@pytest.mark.parametrize("kind", [DiffusionPolicy, FlowPolicy])
def test_narrow_and_wide_noise_come_through_alike(monkeypatch, kind):
    """Of normally distributed chunks the best network is known: what is left of their deviation is the sampler's doing."""

    def share(std, **changes):
        policy = kind(replace(SHAPE, **{"denoising_steps": 100, "inference_steps": 8, **changes})).eval()

        def best(x, step, obs):
            if kind is FlowPolicy:
                time = step[:, None] / 100
                return (time * std**2 - (1 - time)) / ((1 - time) ** 2 + (time * std) ** 2) * x
            alpha = policy.alphas[step.long()][:, None]
            return (1 - alpha).sqrt() / (alpha * std**2 + 1 - alpha) * x

        monkeypatch.setattr(policy.network, "forward", best)
        return float(policy.sample(torch.zeros(4000, 4), torch.randn(4000, 6)).std()) / std

    stds = (0.05, 0.1, 0.2, 0.3)
    assert all(0.7 < share(std) < 0.87 for std in stds)
    even = [share(std, spacing="even") for std in stds]
    assert even[0] < 0.35 and even[-1] > 0.7  # and so noise of one size in all directions suffers more
    assert share(0.1, inference_steps=100) > 0.9


def test_sampling_is_deterministic_in_the_noise_and_depends_on_it():
    policy, obs = DiffusionPolicy(SHAPE).eval(), torch.randn(4, 4)
    noise = torch.randn(4, 6)
    assert torch.equal(policy.sample(obs, noise), policy.sample(obs, noise))
    assert not torch.equal(policy.sample(obs, noise), policy.sample(obs, -noise))


def test_a_perfect_denoiser_gives_back_the_chunk(monkeypatch):
    """With ε known exactly, DDIM must land on x₀ whatever the noise: a check of the update formula."""
    policy, target = DiffusionPolicy(SHAPE), torch.rand(5, 6) * 1.6 - 0.8

    def exact(x, step, obs):
        alpha = policy.alphas[step.long()][:, None]
        return (x - alpha.sqrt() * target) / (1 - alpha).sqrt()

    monkeypatch.setattr(policy.network, "forward", exact)
    sampled = policy.sample(torch.zeros(5, 4), torch.randn(5, 6))
    assert torch.allclose(sampled.flatten(1), target, atol=1e-3)
