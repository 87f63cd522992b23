import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import IDLE, make_frames, toy_episode, with_idle_dimension

from postbc.adam import AdamW
from postbc.config import Method, PretrainConfig
from postbc.errors import IntegrityError, TrainingDivergedError
from postbc.observation import ObsShape
from postbc.policies.cvae import CvaePolicy
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.flow import FlowPolicy
from postbc.policies.folder import load_policy, save_policy
from postbc.policies.generative import PolicyShape
from postbc.policies.policy import Latent, Policy
from postbc.policies.pretrain import pretrain, split
from postbc.policies.steering import Actor
from postbc.policies.value import TwinValue
from postbc.posterior.factors import Factors
from postbc.posterior.targets import Targets
from postbc.storage.checkpoint import Checkpoints
from postbc.training import Ema, Generators, Run, Schedule
from postbc.training import train as train_loop

SHAPE = PolicyShape(ObsShape(2, 2), 2, 3, 24, 2, 20, 5)
SMALL = PretrainConfig(hidden=32, layers=2, denoising_steps=20, inference_steps=5, steps=60, batch=32, ema=0.9)


def train(frames, tmp_path, factors=None, config=SMALL):
    targets = Targets(frames, 3, Method.POSTBC if factors else Method.BC, 1.0, factors)
    return pretrain(targets, config, 0, Checkpoints(tmp_path / "checkpoint", "test"))


def test_it_learns_both_modes(tmp_path):
    """One observation, two demonstrated actions: samples must be near either and rarely between."""
    frames = make_frames([toy_episode(0, 200)])
    sign = torch.where(torch.arange(200) % 2 == 0, 1.0, -1.0)[:, None]
    frames.action.copy_(sign.expand(200, 2))
    frames.obs.zero_()
    config = PretrainConfig(hidden=64, layers=2, denoising_steps=50, inference_steps=10, steps=800, batch=64, ema=0.9)
    policy, _ = pretrain(Targets(frames, 1, Method.BC), config, 0, Checkpoints(tmp_path / "c", "x"))
    drawn = policy.act(torch.zeros(400, 4), torch.randn(400, 2))[:, 0]
    near = (drawn.abs() - 1).abs() < 0.3
    assert near.all(dim=1).float().mean() > 0.9
    assert 0.3 < (drawn[:, 0] > 0).float().mean() < 0.7


def test_postbc_without_noise_is_bc_and_sees_the_same_batches(frames, tmp_path):
    silent = Factors(torch.zeros(len(frames), 4, 6), frames.fingerprint)
    bc, _ = train(frames, tmp_path / "a")
    postbc, _ = train(frames, tmp_path / "b", silent)
    obs, noise = frames.obs[:7], torch.randn(7, 6)
    assert torch.equal(bc.model.sample(obs, noise), postbc.model.sample(obs, noise))
    loud = Factors(torch.randn(len(frames), 4, 6), frames.fingerprint)
    other, _ = train(frames, tmp_path / "c", loud)
    assert not torch.equal(bc.model.sample(obs, noise), other.model.sample(obs, noise))


def test_divergence_stops_training(frames, tmp_path):
    broken = Factors(torch.full((len(frames), 4, 6), torch.nan), frames.fingerprint)
    with pytest.raises(TrainingDivergedError, match="learning rate"):
        train(frames, tmp_path, broken)


def test_what_has_diverged_is_never_kept(tmp_path):
    module, checkpoints = torch.nn.Linear(1, 1), Checkpoints(tmp_path / "c", "x")
    losses = iter([1.0] * 995 + [math.nan] * 1005)  # reports look at every twentieth, checkpoints are at every 500th
    run = Run("toy", Schedule(2000, 1e-3), Generators(0, ()), checkpoints)
    with pytest.raises(TrainingDivergedError, match=r"step 1000.*learning rate"):
        train_loop(run, module, lambda: (next(losses) * module(torch.ones(1, 1)).square().sum(), {}))
    assert checkpoints.load()["step"] == 500


@pytest.mark.parametrize("latent", list(Latent))
def test_a_saved_policy_comes_back_the_same(tmp_path, latent):
    actor = Actor(4, 6, 16, 2, 1.5) if latent is Latent.STEERED else None
    scorer = TwinValue(4, 6, 16, 2) if latent is Latent.BEST else None
    policy = Policy(DiffusionPolicy(SHAPE), latent, actor, scorer=scorer, samples=5 if scorer else 1).eval()
    save_policy(policy, tmp_path / "p")
    opened, obs, normal = load_policy(tmp_path / "p"), torch.randn(3, 4), torch.randn(3, policy.normal_dim)
    assert torch.equal(opened.act(obs, normal), policy.act(obs, normal))
    if latent is Latent.SAMPLE:
        zero = load_policy(tmp_path / "p", Latent.ZERO)
        assert torch.equal(zero.act(obs, normal), policy.model.sample(obs, torch.zeros(3, 6)))
    weights = tmp_path / "p" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_policy(tmp_path / "p")


def test_the_best_of_several_samples_is_played():
    """Against scoring every sample one by one; and of one sample there is no choice."""
    model, scorer, obs = DiffusionPolicy(SHAPE).eval(), TwinValue(4, 6, 16, 2), torch.randn(7, 4)
    normal = torch.randn(7, 30)
    played = Policy(model, Latent.BEST, scorer=scorer, samples=5).act(obs, normal)
    for row in range(7):
        chunks = [model.sample(obs[row : row + 1], w[None]) for w in normal[row].split(6)]
        values = [float(scorer.value(obs[row : row + 1], model.normalise(chunk)).detach()) for chunk in chunks]
        assert torch.allclose(played[row], chunks[values.index(max(values))][0], atol=1e-5)
    one = Policy(model, Latent.BEST, scorer=scorer, samples=1).act(obs, normal[:, :6])
    assert torch.equal(one, Policy(model, Latent.SAMPLE).act(obs, normal[:, :6]))


def test_a_steering_actor_chooses_a_conditional_policys_scale():
    model = DiffusionPolicy(replace(SHAPE, conditional=True)).eval()
    actor, obs, w = Actor(4, 7, 16, 2, 1.5), torch.randn(3, 4), torch.randn(3, 6)
    policy = Policy(model, Latent.STEERED, actor)
    for number, scale in ((-1.5, 0.0), (0.0, 0.5), (1.5, 1.0), (9.0, 1.0)):
        steered = policy.decode(obs, torch.cat([w, torch.full((3, 1), number)], dim=1))
        assert torch.equal(steered, model.sample(obs, w, torch.full((3,), scale)))
    assert torch.equal(policy.act(obs), policy.decode(obs, actor.mode(obs)))


def test_the_actors_log_probability_is_that_of_its_distribution():
    """In one dimension the density of u = w / b integrates to one and matches the histogram of samples."""
    actor, obs = Actor(1, 1, 8, 1, 1.5), torch.zeros(200_000, 1)
    latent, log_prob = actor.sample(obs, torch.Generator().manual_seed(0))
    u = latent[:, 0].detach() / 1.5
    for low, high in ((-0.5, -0.25), (0.0, 0.25), (0.6, 0.85)):
        inside = (u > low) & (u < high)
        density = log_prob[inside].exp().mean() * (high - low)
        assert abs(inside.float().mean() - density) < 0.01
    assert latent.abs().max() <= 1.5


LEROBOT = """
import logging, os, sys, torch
os.environ["HF_HUB_OFFLINE"] = "1"
logging.disable(logging.WARNING)
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from postbc.policies.folder import load_policy
folder, again = sys.argv[1:]
config = PreTrainedConfig.from_pretrained(folder)
policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
before, after = make_pre_post_processors(config, pretrained_path=folder)
own = load_policy(__import__("pathlib").Path(folder))
pixels, history = own.model.shape.obs.pixels, own.model.shape.obs.history
seen, rows, actions, noise = [], [], [], torch.randn(2, 6)
for step in range(4):  # a chunk of three actions, then another one
    raw = {"observation.state": torch.randn(2, 2)}
    if pixels:
        raw["observation.image"] = torch.randint(256, (2, *pixels)) / 255
    elif own.model.shape.obs.environment:
        raw["observation.environment_state"] = torch.randn(2, 2)
    seen += [raw] * (history if step == 0 else 1)
    last = {key: torch.stack([one[key] for one in seen[-history:]], 1) for key in raw}
    numbers = torch.cat([v for k, v in last.items() if "image" not in k], 2).flatten(1)
    rows.append(torch.cat([numbers, *[255 * v.flatten(1) for k, v in last.items() if "image" in k]], 1))
    actions.append(after(policy.select_action(before(dict(raw)), noise=noise)))
chunk = own.model.sample(rows[0], noise)
assert torch.equal(torch.stack(actions[:3], 1), chunk)
assert torch.equal(actions[3], own.model.sample(rows[3], noise)[:, 0])
loss, _ = policy.forward({**(last if history > 1 else raw), "action": chunk})
assert torch.isfinite(loss)
policy.save_pretrained(again)
stats = {k: {"min": torch.zeros(2), "max": torch.full((2,), 512.0)} for k in [*raw, "action"] if "image" not in k}
batch = {k: 512 * v if k in stats else v for k, v in (last if history > 1 else raw).items()}
losses = []
for seed in (0, 0, 1):  # as LeRobot's own training would begin
    fresh = get_policy_class("postbc")(config, dataset_stats=stats)
    fresh.load_state_dict({**policy.state_dict(), **{k: v for k, v in fresh.state_dict().items() if "normalizer" in k}})
    torch.manual_seed(seed)
    losses.append(float(fresh.forward({**batch, "action": 512 * torch.rand(2, 3, 2)})[0]))
assert losses[0] == losses[1] != losses[2] and max(losses) < 10, losses
assert float(fresh.policy.model.normalise(torch.full((1, 3, 2), 512.0)).mean()) == 1
import json, pathlib
ours, theirs = (json.loads((pathlib.Path(f) / "config.json").read_text()) for f in (folder, again))
wrong = {k: (v, theirs.get(k)) for k, v in ours.items() if theirs.get(k) != v}
assert not wrong, wrong
print("same")
"""


@pytest.mark.parametrize("seen", [ObsShape(2, 2), ObsShape(2, 0), ObsShape(2, 0, (3, 16, 16), history=2)])
def test_lerobot_opens_the_folder_through_the_plugin(tmp_path, seen):
    model = DiffusionPolicy(replace(SHAPE, obs=seen))
    save_policy(Policy(model, Latent.STEERED, Actor(model.observer.features, 6, 16, 2, 1.5)).eval(), tmp_path / "p")
    command = [sys.executable, "-c", LEROBOT, str(tmp_path / "p"), str(tmp_path / "again")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("same\n"), done.stderr[-2000:]


LEROBOT_CHOOSES = """
import logging, os, pathlib, sys, torch
os.environ["HF_HUB_OFFLINE"] = "1"
logging.disable(logging.WARNING)
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import get_policy_class
from postbc.policies.folder import load_policy
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
    seen = {"observation.state": torch.randn(2, 2), "observation.environment_state": torch.randn(2, 2)}
    own, chunks = load_policy(folder), []
    for act in (lambda: policy.predict_action_chunk(seen), lambda: own.act(torch.cat([*seen.values()], 1))):
        torch.manual_seed(0)
        chunks.append(act())
    assert torch.equal(*chunks), folder
    print("same", folder.name)
"""


def test_lerobot_plays_every_kind_and_every_choice_of_the_noise_as_we_do(tmp_path):
    kinds = {"diffusion": DiffusionPolicy, "flow": FlowPolicy, "cvae": CvaePolicy}
    policies = {kind: Policy(build(replace(SHAPE, kind=kind)), Latent.SAMPLE) for kind, build in kinds.items()}
    conditional = FlowPolicy(replace(SHAPE, kind="flow", conditional=True))
    policies |= {f"scale {scale}": Policy(conditional, Latent.SAMPLE, scale=scale) for scale in (0.0, 1.0)}
    model = DiffusionPolicy(SHAPE)
    scorer = TwinValue(model.observer.features, 6, 16, 1)
    policies |= {"zero": Policy(model, Latent.ZERO), "best": Policy(model, Latent.BEST, scorer=scorer, samples=4)}
    policies["steered"] = Policy(model, Latent.STEERED, Actor(model.observer.features, 6, 16, 2, 1.5))
    for name, policy in policies.items():
        save_policy(policy.eval(), tmp_path / name)
    command = [sys.executable, "-c", LEROBOT_CHOOSES, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.findall("^same (.*)$", done.stdout, re.MULTILINE) == sorted(policies), done.stderr[-2000:]


@pytest.mark.parametrize("kind", ["diffusion", "flow", "cvae"])
@pytest.mark.parametrize("method", list(Method))
def test_every_kind_learns_by_every_method_and_comes_back(frames, tmp_path, kind, method):
    factors = Factors(0.01 * torch.randn(len(frames), 4, 6), frames.fingerprint, "full", 3)
    config = replace(SMALL, policy=kind, steps=150)
    targets = Targets(frames, 3, method, 0.1, factors)
    policy, rows = pretrain(targets, config, 0, Checkpoints(tmp_path / "c", "x"))
    assert rows[-1]["loss"] < 0.97 * rows[0]["loss"]
    save_policy(policy, tmp_path / "p")
    obs, normal = frames.obs[:5], torch.randn(5, policy.latent_dim)
    opened = load_policy(tmp_path / "p")
    assert torch.equal(opened.act(obs, normal), policy.act(obs, normal))
    covering = load_policy(tmp_path / "p", scale=1.0).act(obs, normal)
    assert torch.equal(covering, policy.act(obs, normal)) == (method is not Method.POSTBC_CONDITIONAL)
    assert (covering >= frames.action.amin(0) - 1e-6).all()
    assert (covering <= frames.action.amax(0) + 1e-6).all()


@pytest.mark.parametrize("kind", ["diffusion", "flow", "cvae"])
def test_a_dimension_that_never_varied_is_commanded_as_shown(frames, tmp_path, kind):
    targets = Targets(with_idle_dimension(frames), 3, Method.SIGMA_BC, 0.1)
    policy, _ = pretrain(targets, replace(SMALL, policy=kind, steps=20), 0, Checkpoints(tmp_path / "c", "x"))
    chunk = policy.act(frames.obs[:5], torch.randn(5, policy.latent_dim))
    assert (chunk[..., 2] == IDLE).all()
    assert chunk[..., :2].std() > 0
    assert (policy.model.normalise(torch.full((1, 3, 3), 5.0)).abs() < 1e6).all()  # a person may move it later


@pytest.mark.parametrize("kind", ["flow", "cvae"])
def test_other_kinds_learn_both_modes_too(tmp_path, kind):
    """One observation, two demonstrated actions that differ in sign: latent noise has to choose between them."""
    frames = make_frames([toy_episode(0, 200)])
    frames.action.copy_(torch.where(torch.arange(200) % 2 == 0, 1.0, -1.0)[:, None].expand(200, 2))
    frames.obs.zero_()
    config = PretrainConfig(policy=kind, hidden=64, layers=2, steps=1200, batch=64, ema=0.9)
    policy, _ = pretrain(Targets(frames, 1, Method.BC), config, 0, Checkpoints(tmp_path / "c", "x"))
    drawn = policy.act(torch.zeros(400, 4), torch.randn(400, policy.latent_dim))[:, 0]
    assert ((drawn.abs() - 1).abs() < 0.3).all(dim=1).float().mean() > 0.85
    assert 0.3 < (drawn[:, 0] > 0).float().mean() < 0.7


def test_validation_watches_episodes_that_are_not_trained_on(frames, tmp_path, monkeypatch):
    seen, unseen = split(frames, 0.3, 0)
    trained, watched = (set(frames.episode[index].tolist()) for index in (seen, unseen))
    assert trained | watched == set(range(6))
    assert (len(watched), trained & watched) == (2, set())
    drawn = []
    original = Targets.draw
    monkeypatch.setattr(Targets, "draw", lambda self, index, g: (drawn.append(index), original(self, index, g))[1])
    policy, rows = train(frames, tmp_path, config=replace(SMALL, validation=0.3))
    model, chunk = policy.model, frames.chunks(unseen, 3)
    with torch.no_grad():
        saved = float(model.loss(frames.rows(unseen), chunk, torch.Generator().manual_seed(0))[0])
    assert rows[-1]["validation"] == saved
    assert set(frames.episode[torch.cat(drawn)].tolist()) == trained
    assert rows[-1]["validation"] < rows[0]["validation"]
    assert len(split(make_frames([toy_episode(0)]), 0.9, 0)[0]) == 12  # one episode is never held out


def test_the_average_is_in_force_for_a_while_and_leaves_no_trace():
    layer = torch.nn.Linear(3, 2)
    average = Ema(layer, 0.5)
    before = [p.detach().clone() for p in average.average]
    torch.nn.init.normal_(layer.weight)
    live = layer.weight.detach().clone()
    with average.in_force():
        assert torch.equal(layer.weight, before[0])
    assert torch.equal(layer.weight, live) and torch.equal(average.average[0], before[0])


def test_a_gradient_is_no_longer_than_the_clip():
    layer = torch.nn.Linear(2, 1, bias=False)
    plain, clipped = (AdamW(layer.parameters(), 0.0, clip=clip) for clip in (math.inf, 1.0))
    x = torch.tensor([[300.0, 400.0]])
    for optimiser in (plain, clipped):
        optimiser.minimise(layer(x).sum())
    first = torch.stack([o.state()["mean"][0] for o in (plain, clipped)]).norm(dim=(1, 2)) / 0.1
    assert torch.allclose(first, torch.tensor([500.0, 1.0]), rtol=1e-4)


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from toy import make_frames, toy_episode
import postbc.training
from postbc.adam import AdamW
from postbc.config import Method, PretrainConfig
from postbc.policies.folder import save_policy
from postbc.policies.pretrain import pretrain, split
from postbc.posterior.factors import Factors
from postbc.posterior.targets import Targets
from postbc.storage.checkpoint import Checkpoints
torch.set_num_threads(1)
folder = Path(sys.argv[1])
frames = make_frames([toy_episode(n) for n in range(6)])
factors = Factors(0.01 * torch.randn(len(frames), 4, 6, generator=torch.Generator().manual_seed(0)), "toy", "full", 3)
config = PretrainConfig(hidden=32, layers=2, denoising_steps=20, inference_steps=5, steps=2600, batch=32, ema=0.9)
targets = Targets(frames, 3, Method.POSTBC_CONDITIONAL, 0.5, factors)
class Dying(AdamW):
    left = int(sys.argv[2])
    def minimise(self, loss):
        Dying.left -= 1
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        super().minimise(loss)
postbc.training.AdamW = Dying
policy, rows = pretrain(targets, config, 0, Checkpoints(folder / "checkpoint", "x"))
save_policy(policy, folder / "policy")
"""


def test_a_killed_training_ends_in_the_same_policy_bit_for_bit(tmp_path):
    """SIGKILL between checkpoints, just after one and just before one; against a run that was left alone."""
    environment, weights = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, []
    for name, kills in (
        ("whole", (0,)),
        ("killed", (731, 502, 999, 0)),
    ):  # gradient steps of a process; 0: it ends by itself
        folder = tmp_path / name
        folder.mkdir()
        commands = [[sys.executable, "-c", KILLED, str(folder), str(steps)] for steps in kills]
        ends = [subprocess.run(command, env=environment, check=False).returncode for command in commands]
        assert ends == [*[-signal.SIGKILL] * (len(kills) - 1), 0]
        weights.append((folder / "policy" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize(("steps", "most"), [(1, 0.9), (100, 1e-3), (300, 1e-3)])
def test_little_of_the_initial_weights_is_left_in_the_average(steps, most):
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    ema = Ema(module, 0.995)
    torch.nn.init.zeros_(module.weight)  # all that was learned
    for step in range(steps):
        ema.update(step)
    assert ema.average[0].item() <= most


def test_the_average_settles_to_its_decay():
    module = torch.nn.Linear(1, 1, bias=False)
    ema = Ema(module, 0.9)
    torch.nn.init.ones_(module.weight)
    ema.average[0].zero_()
    ema.update(10_000)
    assert float(ema.average[0]) == pytest.approx(0.1)
