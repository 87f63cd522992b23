"""What a user would try first: stable-baselines3's PPO and SAC on the finetuners' environments.

An action is a chunk, normalised; γ is that of the chunk's length. PPO gets the task's reward; SAC one less at every control
step, as DSRL does: otherwise it learns to stay alive for the entropy's sake, on the toy task too. Settings, seeds, budget,
starts and looks are those of docs/reproduce.md, whose tables these rows stand beside. ``ppo from bc`` first regresses the
actor's mean on the demonstrated chunks. SAC begins from scratch only: critics that know nothing would undo a cloned actor.

A cell is (setting, seed, algorithm); each is appended to benchmarks/results/baselines.jsonl when it is done, and one that
stands there is not run again.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.nn import functional as F

from benchmarks.cells import Cells
from benchmarks.coverage import WORKERS, Cell, setting, trained, training
from benchmarks.record import FOLDER, commit
from benchmarks.reproduce import COMMON, LOOK_EPISODES, SEEDS, SETTINGS, STARTS
from postbc.config import FinetuneConfig, Method
from postbc.demos.frames import Frames
from postbc.evaluation.rollouts import evaluate, summary
from postbc.policies.generative import GenerativePolicy
from postbc.progress import log
from postbc.sims.starts import EVALUATION, LOOK_RUN, TRAINING, seeds
from postbc.sims.vector import ChunkEnv, ChunkEnvs
from postbc.storage.journal import Row

RESULTS = Cells(FOLDER / "baselines.jsonl")
ALGORITHMS = ("sac", "ppo", "ppo from bc")
CLONING, CLONED_LOG_STD = 2000, -1.0  # gradient steps; the deviation that a cloned actor explores with
Look = Callable[["Played"], Row]


@dataclass(frozen=True)
class Trial:
    """One row."""

    setting: str
    seed: int
    algorithm: str


class Flat(gym.Env):
    """A chunk environment as stable-baselines3 wants it: normalised observations, flat chunks in [-1, 1]."""

    def __init__(self, env: ChunkEnv, model: GenerativePolicy, starts: list[int], cost: float) -> None:
        self.env, self.model, self.starts, self.cost = env, model, starts, cost
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (model.observer.features,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (model.shape.chunk_dim,), np.float32)
        self._begun = False

    def _features(self, row: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.observer(torch.from_numpy(row)[None])[0].numpy())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next start; which one does not depend on ``seed``."""
        row, info = self.env.reset(options=None if self._begun else {"starts": self.starts})
        self._begun = True
        return self._features(row), info

    @torch.no_grad()
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play a chunk."""
        chunk = self.model.raw(torch.from_numpy(np.asarray(action))[None])[0]
        row, reward, terminated, truncated, info = self.env.step(chunk.numpy())
        spent = sum(self.env.discount**i for i in range(info["steps"]))
        return self._features(row), reward - self.cost * spent, terminated, truncated, info


class Played:
    """stable-baselines3's policy to the project's evaluator: its most likely chunk."""

    normal_dim = 1  # it samples nothing

    def __init__(self, algorithm: BaseAlgorithm, model: GenerativePolicy) -> None:
        self.algorithm, self.model = algorithm, model

    @torch.no_grad()
    def act(self, obs: torch.Tensor, normal: torch.Tensor | None = None) -> torch.Tensor:
        """Chunks (B, H, A) for raw observations (B, O)."""
        chosen, _ = self.algorithm.predict(self.model.observer(obs).numpy(), deterministic=True)
        return self.model.raw(torch.from_numpy(chosen))


class Budget(BaseCallback):
    """Stops after ``steps`` control steps and looks at the policy every ``every`` of them."""

    def __init__(self, steps: int, every: int, look: Look, played: Played) -> None:
        super().__init__()
        self.steps, self.every, self.look, self.policy = steps, every, look, played
        self.spent, self.rows = 0, list[Row]()

    def _on_step(self) -> bool:
        before, self.spent = self.spent, self.spent + sum(info["steps"] for info in self.locals["infos"])
        if before // self.every != self.spent // self.every or self.spent >= self.steps:
            self.rows.append({"env_steps": self.spent, **self.look(self.policy)})
        return self.spent < self.steps


def build(algorithm: str, envs: DummyVecEnv, config: FinetuneConfig, chunk: int, seed: int) -> BaseAlgorithm:
    """SAC or PPO with the finetuners' widths, batch and discount, and stable-baselines3's own settings otherwise."""
    common: dict[str, Any] = {
        "policy": "MlpPolicy",
        "env": envs,
        "gamma": config.discount**chunk,
        "seed": seed,
        "device": "cpu",
    }
    shape = [config.hidden] * (config.layers + 1)
    if algorithm == "sac":
        return SAC(
            **common, learning_rate=config.learning_rate, batch_size=config.batch, buffer_size=config.buffer, train_freq=1,
            learning_starts=config.initial_steps // chunk, gradient_steps=int(config.updates_per_chunk * config.envs),
            policy_kwargs={"net_arch": shape},
        )  # fmt: skip
    return PPO(**common, n_steps=256 // config.envs, batch_size=64, policy_kwargs={"net_arch": shape})


def clone(algorithm: BaseAlgorithm, model: GenerativePolicy, frames: Frames) -> None:
    """Regress the actor's mean on the normalised chunks of the demonstrations."""
    policy: Any = algorithm.policy
    order = torch.Generator().manual_seed(0)
    features = model.observer(frames.rows(torch.arange(len(frames))))
    wanted = model.normalise(frames.all_chunks(model.shape.chunk).unflatten(1, (model.shape.chunk, -1)))
    optimiser = torch.optim.Adam(policy.parameters(), 1e-3)
    for _ in range(CLONING):
        index = torch.randint(len(frames), (256,), generator=order)
        loss = F.mse_loss(policy.get_distribution(features[index]).distribution.mean, wanted[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        policy.log_std.fill_(CLONED_LOG_STD)


@dataclass(frozen=True)
class Ground:
    """Where is learned, in whose ranges, and from which demonstrations."""

    envs: ChunkEnvs
    model: GenerativePolicy
    frames: Frames


def learn(name: str, config: FinetuneConfig, ground: Ground, look: Look, seed: int) -> tuple[Played, list[Row]]:
    """Spend the budget; the last policy and the looks at it."""
    starts, model = seeds(TRAINING, seed, 2 * config.env_steps), ground.model
    one = [partial(ground.envs.one, config.discount, (i, config.envs)) for i in range(config.envs)]
    cost = 1.0 if name == "sac" else 0.0
    vector = DummyVecEnv([partial(lambda make: Flat(make(), model, starts, cost), make) for make in one])
    try:
        algorithm = build(name.split()[0], vector, config, ground.envs.chunk, seed)
        if name.endswith("from bc"):
            clone(algorithm, model, ground.frames)
        budget = Budget(config.env_steps, config.evaluate_every, look, Played(algorithm, model))
        algorithm.learn(10**9, callback=budget)
    finally:
        vector.close()
    return budget.policy, budget.rows


def run(trial: Trial, recordings: Path | None) -> Row:
    """One cell."""
    task, size = SETTINGS[trial.setting]
    group = Cell(task, size, trial.seed, "")
    model = trained(group, (Method.BC, ()), recordings)[0].model  # for its ranges
    envs = ChunkEnvs.of(setting(task))
    vector = envs.vector(WORKERS)
    looks, starts = seeds(EVALUATION, LOOK_RUN, LOOK_EPISODES), seeds(EVALUATION, 1 + trial.seed, STARTS)

    def success(policy: Played, where: list[int]) -> Row:
        return summary(evaluate(policy, vector, where, "look"))

    try:
        ground = Ground(envs, model, training(group, recordings))
        played, rows = learn(trial.algorithm, COMMON, ground, lambda p: success(p, looks), trial.seed)
        found = success(played, starts)
    finally:
        vector.close()
    curve = {key: [row[key] for row in rows] for key in ("env_steps", "success", "mean_max_reward")}
    kept = {"success": found["success"], "reward": found["mean_max_reward"], "curve": curve}
    return {"cell": asdict(trial), **kept, "commit": commit()}


def main() -> None:
    """Run what has not been run, print means over seeds."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pusht", type=Path, help="recorded human demonstrations of PushT (public)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in SETTINGS if options.pusht or not name.startswith("pusht")]
    for seed, name, algorithm in product(range(SEEDS), names, ALGORITHMS):
        trial = Trial(name, seed, algorithm)
        if RESULTS.lacks(asdict(trial)):
            RESULTS.keep(row := run(trial, options.pusht))
            log.info("%s: success %.2f", list(asdict(trial).values()), row["success"])
    table = Table("setting", *ALGORITHMS, header_style="bold")
    for name in names:
        by = {a: [r["success"] for r in RESULTS.rows() if (r["cell"]["setting"], r["cell"]["algorithm"]) == (name, a)]
              for a in ALGORITHMS}  # fmt: skip
        table.add_row(name, *(f"{100 * np.mean(found):.0f} % ({len(found)})" for found in by.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
