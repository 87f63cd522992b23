"""How fast finetuning learns and plays: gradient steps beside stable-baselines3's SAC, and where a whole run's time goes."""

import argparse
import logging
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.coverage import PILOT, Cell, setting, trained
from benchmarks.posterior import product_rate, seconds
from benchmarks.record import write
from benchmarks.scratch import scratch
from postbc.config import FinetuneConfig, Method
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.dsrl import Dsrl
from postbc.finetune.replay import Batch
from postbc.observation import ObsShape
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.progress import Stopwatch
from postbc.sims.starts import TRAINING, seeds
from postbc.sims.vector import ChunkEnvs

OBS, ACTIONS, CHUNK = 23, 7, 4  # Lift's
NETWORKS = ((256, 2, 256), (256, 4, 256), (128, 3, 128))  # width, layers of that width, batch; the first is SB3's own
PASSES = 16  # through one network and gradient step of SAC: forward 8, to inputs 5, to weights 3
STORED, STEPS = 4096, 3000
TASKS = {"lift": 3, "metaworld/door-open": 2}  # demonstrations of the policy that is finetuned


def ours(width: int, layers: int, batch: int) -> tuple[Callable[[], object], float]:
    """A gradient step of DSRL on random transitions, and its multiply-adds."""
    shape = PolicyShape(ObsShape(9, OBS - 9), ACTIONS, CHUNK, 32, 1, 100, 8)
    config = FinetuneConfig(hidden=width, layers=layers - 1, batch=batch, buffer=STORED)
    learner = Dsrl(DiffusionPolicy(shape), config, 0)
    obs, following = torch.randn(2, STORED, OBS)
    latent = torch.randn(STORED, learner.width).clamp(-1.5, 1.5)
    learner.replay.add(Batch(obs, latent, torch.rand(STORED), torch.full((STORED,), 0.96), following))
    weights = sum(p.numel() for p in learner.critics.twin.heads[0].parameters() if p.ndim > 1)
    return learner.update, 2 * PASSES * batch * weights


class Still(gym.Env):
    """Spaces for stable-baselines3; nothing happens."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gym.spaces.Box(-1.5, 1.5, (CHUNK * ACTIONS,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin."""
        return np.zeros(OBS, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Somewhere else."""
        return np.random.default_rng().standard_normal(OBS, np.float32), 0.0, False, False, {}


def theirs(width: int, layers: int, batch: int) -> Callable[[], object]:
    """A gradient step of stable-baselines3's SAC: networks of the same matrices, ReLU between them and nothing else."""
    from stable_baselines3 import SAC

    shape = {"net_arch": [width] * layers}
    sac = SAC("MlpPolicy", Still(), batch_size=batch, buffer_size=STORED, policy_kwargs=shape, device="cpu")
    sac.learn(200)  # fills its replay
    return lambda: sac.train(1, batch)


def updates(repeats: int) -> dict[str, dict[str, float]]:
    """Gradient steps a second by networks, and the share of this machine's product rate that ours reach."""
    rows, rate = {}, product_rate()
    for width, layers, batch in NETWORKS:
        step, operations = ours(width, layers, batch)
        mine, other = (seconds(work, repeats) for work in (step, theirs(width, layers, batch)))
        rows[f"{layers} × {width}, batch {batch}"] = {
            "ours": 1 / mine,
            "stable-baselines3": 1 / other,
            "ratio": other / mine,
            "share of product rate": operations / mine / rate,
        }
    return rows


def whole_run(task: str, overlaps: bool) -> dict[str, Any]:
    """Control steps a second of a run of DSRL without looks, and the shares of its time."""
    policy, _ = trained(Cell(task, TASKS[task], PILOT, ""), (Method.BC, ()), None)
    config = FinetuneConfig(env_steps=STEPS, initial_steps=600, envs=2, evaluate_every=0, checkpoint_every=10**9)
    learner, watch = Dsrl(policy.model, config, 0), Stopwatch()
    learner.overlaps = overlaps
    vector = ChunkEnvs.of(setting(task)).vector(config.envs, config.discount)
    with closing(vector), scratch() as checkpoints:
        begun = time.perf_counter()
        finetune(learner, Arena(vector, seeds(TRAINING, 0, STEPS), checkpoints, watch=watch))
        spent = time.perf_counter() - begun
    shares = {kind: part / spent for kind, part in watch.seconds.items()}
    return {"env_steps_per_second": STEPS / spent, "seconds": spent, "shares": shares}


def main() -> None:
    """Measure, print, write benchmarks/results/finetune.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    begun, threads = time.monotonic(), torch.get_num_threads()
    found = updates(options.repeats)
    table = Table("networks", "ours", "stable-baselines3", "ratio", "of product rate", header_style="bold")
    for name, row in found.items():
        told = (f"{row['ours']:.0f}/s", f"{row['stable-baselines3']:.0f}/s", f"{row['ratio']:.2f}")
        table.add_row(name, *told, f"{100 * row['share of product rate']:.0f} %")
    Console().print(table)
    runs: dict[str, dict[str, Any]] = {
        task: {way: whole_run(task, way == "overlapped") for way in ("in turn", "overlapped")} for task in TASKS
    }
    table = Table("run of DSRL", "control steps/s", "share of the time", header_style="bold")
    for task, ways in runs.items():
        for way, row in ways.items():
            shares = ", ".join(f"{kind} {100 * part:.0f} %" for kind, part in row["shares"].items())
            table.add_row(f"{task}, {way}", f"{row['env_steps_per_second']:.0f}", shares)
    Console().print(table)
    numbers = {"threads": threads, "updates_per_second": found, "runs": runs}
    path = write("finetune", ("torch", "stable-baselines3", "robosuite", "metaworld"), numbers)
    Console().print(f"{path} in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
