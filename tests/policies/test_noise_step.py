"""LeRobot's own policies learn on posterior noise and are saved as if they had never heard of it."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from postbc.config import Method
from postbc.posterior.factors import Factors
from postbc.posterior.targets import Targets

LEROBOT = """
import logging, os, sys, torch
os.environ["HF_HUB_OFFLINE"] = "1"
logging.disable(logging.WARNING)
from pathlib import Path
from lerobot.configs import PreTrainedConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.factory import get_policy_class, make_policy, make_pre_post_processors
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from postbc.config import Method
from postbc.demos.frames import load_frames
from postbc.errors import ConfigError
from postbc.policies.noise_step import PosteriorNoiseStep, with_noise, without_noise
from postbc.posterior.factors import Factors
from postbc.posterior.targets import Targets
torch.set_num_threads(1)
root, out = map(Path, sys.argv[1:])
frames = load_frames(root)
factors = Factors(0.01 * torch.randn(len(frames), 5, 16), frames.fingerprint, "full", 8)
configs = {
    "diffusion": lambda: DiffusionConfig(n_obs_steps=2, horizon=8, n_action_steps=4, down_dims=(16, 32), n_groups=4,
        num_train_timesteps=10, num_inference_steps=2, device="cpu", push_to_hub=False),
    "act": lambda: ACTConfig(chunk_size=8, n_action_steps=4, dim_model=32, n_heads=2, dim_feedforward=32,
        n_encoder_layers=1, n_vae_encoder_layers=1, device="cpu", push_to_hub=False),
}
for name, make in configs.items():
    for method in (Method.BC, Method.SIGMA_BC, Method.POSTBC, Method.POSTBC_MIXTURE):
        torch.manual_seed(0)
        config = make()
        meta = LeRobotDataset("toy/toy", root=root).meta
        deltas = {"action": [i / meta.fps for i in config.action_delta_indices]}
        for key in ("observation.state", "observation.environment_state"):
            deltas[key] = [i / meta.fps for i in config.observation_delta_indices or [0]]
        if config.observation_delta_indices is None:
            deltas = {"action": deltas["action"]}
        data = LeRobotDataset("toy/toy", root=root, delta_timestamps=deltas)
        policy = make_policy(config, ds_meta=meta).train()
        before, after = make_pre_post_processors(config, dataset_stats=meta.stats)
        targets = Targets(frames, 8, method, 0.5, factors)
        step = PosteriorNoiseStep(targets, torch.Generator().manual_seed(0), config.action_delta_indices[0])
        noisy = with_noise(before, step)
        optimiser = torch.optim.AdamW(policy.parameters(), 1e-3)
        batches = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)
        for batch, _ in zip(batches, range(3)):
            changed = not torch.equal(noisy(dict(batch))["action"], before(dict(batch))["action"])
            assert changed == (method is not Method.BC), (name, method)
            loss, _ = policy.forward(noisy(dict(batch)))
            optimiser.zero_grad(); loss.backward(); optimiser.step()
            assert torch.isfinite(loss)
        folder = out / f"{name}.{method}"
        policy.save_pretrained(folder)
        try:
            noisy.save_pretrained(folder)
            raise SystemExit("noise was saved")
        except ConfigError:
            pass
        without_noise(noisy).save_pretrained(folder)
        after.save_pretrained(folder)
        opened = get_policy_class(name).from_pretrained(folder).eval()
        pre, post = make_pre_post_processors(PreTrainedConfig.from_pretrained(folder), pretrained_path=folder)
        assert [type(s) for s in pre.steps] == [type(s) for s in before.steps]
        raw = {k: batch[k][:1, -1] if batch[k].ndim == 3 else batch[k][:1] for k in batch if k.startswith("observation.")}
        opened.reset()
        assert post(opened.select_action(pre(raw))).shape == (1, 2)
print("opened")
"""


def test_lerobots_policies_learn_by_every_method_and_open_without_it(dataset, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", LEROBOT, str(dataset), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("opened\n"), done.stderr[-3000:]


def test_the_noise_of_a_frame_is_its_own(frames):
    from lerobot.processor import TransitionKey

    from postbc.errors import ConfigError, MismatchError
    from postbc.policies.noise_step import PosteriorNoiseStep

    centred = torch.zeros(len(frames), 2, 6)
    centred[20] = torch.tensor([[0.01], [-0.01]]).expand(2, 6)
    targets = Targets(frames, 3, Method.POSTBC, 1.0, Factors(centred, "toy", "full", 3))
    step, index = PosteriorNoiseStep(targets, torch.Generator().manual_seed(0)), torch.tensor([19, 20, 21])
    action = frames.chunks(index, 3)
    transition = {TransitionKey.ACTION: action, TransitionKey.COMPLEMENTARY_DATA: {"index": index}}
    moved = (step(transition)[TransitionKey.ACTION] - action).abs().amax((1, 2))
    assert moved[1] > 0
    assert moved[[0, 2]].tolist() == [0, 0]
    with pytest.raises(MismatchError, match="index"):
        step({TransitionKey.ACTION: action})
    with pytest.raises(MismatchError, match=r"task\.chunk"):
        step({**transition, TransitionKey.ACTION: action[:, :2]})
    with pytest.raises(ConfigError, match="conditional"):
        PosteriorNoiseStep(replace(targets, method=Method.POSTBC_CONDITIONAL), torch.Generator())


def test_before_an_episode_its_first_action_is_perturbed_as_often_as_it_is_repeated(frames):
    """A policy that reads past observations predicts past actions too; LeRobot repeats the first."""
    from lerobot.processor import TransitionKey

    from postbc.policies.noise_step import PosteriorNoiseStep

    begin = int(torch.searchsorted(frames.episode, torch.tensor([1])))
    centred = torch.zeros(len(frames), 2, 6)
    centred[begin] = 0.01 * torch.tensor([[1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [-1.0, -1.0, -2.0, -2.0, -3.0, -3.0]])
    targets = Targets(frames, 3, Method.POSTBC, 1.0, Factors(centred, "toy", "full", 3))
    for first, shown in ((0, [1, 2, 3]), (-1, [1, 1, 2]), (-2, [1, 1, 1])):
        step = PosteriorNoiseStep(targets, torch.Generator().manual_seed(0), first)
        action = torch.zeros(1, 3, 2)
        transition = {TransitionKey.ACTION: action, TransitionKey.COMPLEMENTARY_DATA: {"index": torch.tensor([begin])}}
        noise = step(transition)[TransitionKey.ACTION][0, :, 0]
        assert torch.allclose(noise / noise[0], torch.tensor(shown, dtype=torch.float32), atol=1e-4), (first, noise)
