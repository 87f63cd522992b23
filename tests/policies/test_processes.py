"""Several processes that train one policy together, really started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy import make_frames, toy_episode

from postbc.compute import Compute
from postbc.config import Method, PretrainConfig
from postbc.policies.folder import load_policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.targets import Targets
from postbc.storage.checkpoint import Checkpoints

TOGETHER = """
import os, signal, sys, torch
from pathlib import Path
from toy import make_frames, toy_episode
from postbc.compute import Compute
from postbc.config import Method, PretrainConfig
from postbc.policies.folder import save_policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.targets import Targets
from postbc.storage.checkpoint import Checkpoints
from stages.running import die_with_parent
die_with_parent()
torch.set_num_threads(1)
folder, compute = Path(sys.argv[1]), Compute()
gradients = [torch.full((2, 3), float(compute.rank)), torch.arange(4.0) * (1 + compute.rank)]
compute.average(gradients)
assert compute.count == 2 and compute.share(33) == 17
assert torch.equal(gradients[0], torch.full((2, 3), 0.5)) and torch.equal(gradients[1], torch.arange(4.0) * 1.5)
frames = make_frames([toy_episode(n) for n in range(6)])
config = PretrainConfig(hidden=32, layers=2, denoising_steps=20, inference_steps=5, steps=1100, batch=32, ema=0.9)
class Dying(Checkpoints):
    def save(self, state):
        super().save(state)
        if len(sys.argv) > 2:
            os.killpg(0, signal.SIGKILL)
policy, rows = pretrain(Targets(frames, 3, Method.BC), config, 0, Dying(folder / "checkpoint", "x"), compute)
sums = compute.gather([float(p.double().sum()) for p in policy.parameters()])
assert sums[0] == sums[1], sums
losses = compute.gather(rows[-1]["loss"])
assert losses[0] != losses[1], "both saw the same frames"
if compute.main:
    save_policy(policy, folder / "policy")
compute.end()
"""


def start(folder: Path, *dying: str) -> subprocess.Popen:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3])),
        "OMP_NUM_THREADS": "1",
    }
    script = folder / "together.py"
    script.write_text(TOGETHER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, str(script), str(folder), *dying]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said[-3000:]
    return folder


def test_two_processes_train_one_policy_as_well_as_one_does(whole, tmp_path):
    frames = make_frames([toy_episode(n) for n in range(6)])
    config = PretrainConfig(hidden=32, layers=2, denoising_steps=20, inference_steps=5, steps=1100, batch=32, ema=0.9)
    alone, _ = pretrain(Targets(frames, 3, Method.BC), config, 0, Checkpoints(tmp_path / "c", "x"))
    losses = []
    for policy in (alone, load_policy(whole / "policy")):
        generator = torch.Generator().manual_seed(0)
        index = torch.arange(len(frames)).repeat(20)
        losses.append(float(policy.model.loss(frames.rows(index), frames.chunks(index, 3), generator)[0].detach()))
    assert abs(losses[0] - losses[1]) < 0.25 * losses[0]


def test_killed_together_they_end_in_the_same_policy_bit_for_bit(whole, tmp_path):
    start(tmp_path, "at the first checkpoint").communicate(timeout=200)
    assert (tmp_path / "checkpoint" / "state.json").exists()
    assert not (tmp_path / "policy").exists()
    again = start(tmp_path)
    said = again.communicate(timeout=200)[1]
    assert again.returncode == 0, said[-3000:]
    weights = [(folder / "policy" / "model.safetensors").read_bytes() for folder in (whole, tmp_path)]
    assert weights[0] == weights[1]


def test_half_precision_changes_products_not_weights(frames, tmp_path):
    config = PretrainConfig(hidden=32, layers=2, denoising_steps=20, inference_steps=5, steps=300, batch=32, ema=0.9)
    rows = {}
    for precision in ("float32", "bf16"):
        compute = Compute(precision)
        targets = Targets(frames, 3, Method.BC)
        policy, rows[precision] = pretrain(targets, config, 0, Checkpoints(tmp_path / precision, "x"), compute)
        assert all(p.dtype == torch.float32 for p in policy.parameters())
    full, half = (rows[p][-1]["loss"] for p in ("float32", "bf16"))
    assert full != half
    assert abs(full - half) < 0.1 * full
