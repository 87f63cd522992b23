"""From simulation to a robot that is another: `make bench-sim-to-robot`.

An SO-101-like arm lifts a cube. Policies cloned from 50 demonstrations (BC, PostBC), then finetuned by DSRL in simulation, then
on a twin for n episodes; success on the simulator and on the twin at every step of that way, on starts of their own, paired
between methods. A seed has its own demonstrations, posterior, policies and starts. Rows are appended to
benchmarks/results/sim_to_robot.jsonl; what stands there is not run again. Budgets were fixed before the first row.
"""

import argparse
import logging
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.cells import Cells
from benchmarks.coverage import VARIANTS, Cell, setting, trained
from benchmarks.record import FOLDER, commit
from postbc.config import FinetuneConfig
from postbc.config.robot import RobotConfig
from postbc.evaluation.rollouts import evaluate, summary
from postbc.evaluation.statistics import wilson
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import save_finetuned
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.remote import start_learner
from postbc.policies.policy import Policy
from postbc.progress import log
from postbc.robots.environment import twin_env
from postbc.robots.session import Pace, RobotVector
from postbc.sims.starts import EVALUATION, LOOK_RUN, ROBOT, TRAINING, seeds
from postbc.sims.vector import ChunkEnvs
from postbc.storage.checkpoint import Checkpoints

RESULTS = Cells(FOLDER / "sim_to_robot.jsonl")
TASK, DEMONSTRATIONS, METHODS, SEEDS, STARTS = "so101_lift", 50, ("bc", "postbc"), 3, 64
ROBOTS = ("twin", "twin_hard")  # of conf/robot
EPISODES = (25, 50, 100)
IN_SIM = FinetuneConfig(
    env_steps=24_000, initial_steps=3_000, envs=2, updates_per_chunk=4, hidden=128, layers=2, batch=128,
    evaluate_every=6_000, evaluate_episodes=24, checkpoint_every=10**9,
)  # fmt: skip
ON_ROBOT = replace(IN_SIM, env_steps=10**6, initial_steps=0, envs=1, evaluate_every=0, checkpoint_every=1)
LEARNED, AFTER = "finetuned in simulation", "and {} episodes on it"  # lives of a policy
FIGURE = FOLDER.parents[1] / "docs" / "figures" / "sim_to_robot.png"
LINES = {"bc": ("BC", "tab:blue"), "postbc": ("PostBC", "tab:orange")}


def robot_of(name: str) -> RobotConfig:
    """A preset of conf/robot."""
    preset = yaml.safe_load((FOLDER.parents[1] / "conf" / "robot" / f"{name}.yaml").read_text())
    return RobotConfig(**preset["finetune_robot"]["robot"])


def success(policy: Policy, robot: str | None, seed: int) -> dict[str, Any]:
    """On the simulator, or on a twin."""
    task = setting(TASK)
    make = None if robot is None else partial(twin_env, robot_of(robot), task)
    with closing(ChunkEnvs.of(task, make).vector(8)) as vector:
        return summary(evaluate(policy, vector, seeds(EVALUATION, 1 + seed, STARTS), str(robot)))


def in_simulation(policy: Policy, seed: int, folder: Path) -> Policy:
    """DSRL; keeps the best policy looked at."""
    learner, looks = build_learner(policy.model, IN_SIM, seed), seeds(EVALUATION, LOOK_RUN, IN_SIM.evaluate_episodes)
    with closing(ChunkEnvs.of(setting(TASK)).vector(IN_SIM.envs, IN_SIM.discount)) as vector:
        where = Arena(
            vector,
            seeds(TRAINING, seed, IN_SIM.env_steps),
            Checkpoints(folder / "sim", "x"),
            lambda p, envs: summary(evaluate(p, envs, looks, "look")),
        )
        rows = finetune(learner, where)
    save_finetuned(learner, rows[-1]["env_steps"], folder / "finetuned")
    return learner.policy()


def on_robot(robot: str, seed: int, episodes: int, folder: Path) -> tuple[Policy, float]:
    """Go on to ``episodes`` on the twin, from where fewer of them ended; the policy, and the robot's minutes."""
    config, task = replace(ON_ROBOT, episodes=episodes), setting(TASK)
    learner = start_learner(folder / "finetuned", config, seed, True)
    settings = robot_of(robot)
    vector = RobotVector(twin_env(settings, task), Pace.of(settings, task), task.history, config.discount)
    with closing(vector):
        where = Arena(vector, seeds(ROBOT, seed, 4096), Checkpoints(folder / robot, "x"), restorable=False)
        rows = finetune(learner, where)
    return learner.policy(), rows[-1]["env_steps"] / task.fps / 60


def measure(seed: int, method: str) -> None:
    """Everything of one method and seed."""

    def keep(life: str, robot: str | None, policy: Policy, minutes: float = 0.0) -> None:
        cell = {"seed": seed, "method": method, "life": life, "robot": robot or "simulator"}
        found = success(policy, robot, seed)
        RESULTS.keep({"cell": cell, **found, "robot_minutes": minutes, "commit": commit()})
        log.info("%s: %.2f", list(cell.values()), found["success"])

    variant, settings, _ = VARIANTS[method]
    policy = trained(Cell(TASK, DEMONSTRATIONS, seed, ""), (variant, tuple(settings.items())), None)[0]
    for robot in (None, *ROBOTS):
        keep("pretrained", robot, policy)
    with tempfile.TemporaryDirectory() as scratch:
        tuned = in_simulation(policy, seed, Path(scratch))
        for robot in (None, *ROBOTS):
            keep(LEARNED, robot, tuned)
        for robot, episodes in product(ROBOTS, EPISODES):
            keep(AFTER.format(episodes), robot, *on_robot(robot, seed, episodes, Path(scratch)))


def measured() -> dict[tuple[str, str], dict[str, list[dict[str, Any]]]]:
    """Rows by (robot, life) and method."""
    lives: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for row in RESULTS.rows():
        cell = row["cell"]
        lives.setdefault((cell["robot"], cell["life"]), {}).setdefault(cell["method"], []).append(row)
    return lives


def pooled(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Success over the starts of all seeds, and its Wilson interval, in percent."""
    solved, count = sum(round(r["success"] * r["episodes"]) for r in rows), sum(r["episodes"] for r in rows)
    low, high = wilson(solved, count) if count else (0.0, 1.0)
    return 100 * solved / max(1, count), 100 * low, 100 * high


def table() -> str:
    """Success over all seeds, with Wilson intervals over starts, and the robot's minutes."""
    lines = ["| played on | policy | robot minutes | BC | PostBC | seeds |", "|---|---|---|---|---|---|"]
    for (robot, life), by in sorted(measured().items(), key=lambda one: ["simulator", *ROBOTS].index(one[0][0])):
        cells = ["{:.0f} % ({:.0f} to {:.0f})".format(*pooled(by.get(method, []))) for method in METHODS]
        minutes = np.mean([row["robot_minutes"] for rows in by.values() for row in rows])
        lines.append(f"| {robot} | {life} | {minutes:.1f} | {' | '.join(cells)} | {min(map(len, by.values()))} |")
    return "\n".join(lines) + "\n"


def draw(path: Path) -> None:
    """Success on each robot against its minutes, as a PNG: thick over all seeds, thin each seed."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(ROBOTS), figsize=(4.4 * len(ROBOTS), 3.4), layout="constrained", sharey=True)
    lives, found = [LEARNED, *(AFTER.format(n) for n in EPISODES)], measured()
    for axis, robot in zip(axes, ROBOTS, strict=True):
        for method, (label, color) in LINES.items():
            rows = [found[robot, life][method] for life in lives]
            minutes = [np.mean([row["robot_minutes"] for row in by]) for by in rows]
            success, low, high = np.array([pooled(by) for by in rows]).T
            axis.fill_between(minutes, low, high, color=color, alpha=0.15, linewidth=0)
            axis.plot(minutes, success, "o-", color=color, label=label)
            for seed in zip(*rows, strict=False):
                axis.plot([r["robot_minutes"] for r in seed], [100 * r["success"] for r in seed], color=color, lw=0.6)
        axis.set(xlabel="minutes of the robot", title=robot, ylim=(0, 100))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("success, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130, metadata={"Software": None})  # the same numbers give the same bytes
    plt.close(figure)


def main() -> None:
    """Run what has not been run; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print and draw what there is, and stop")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    torch.set_num_threads(1)
    final = {"life": AFTER.format(EPISODES[-1]), "robot": ROBOTS[-1]}
    cells = [row["cell"] for row in RESULTS.rows()]
    done = {(cell["seed"], cell["method"]) for cell in cells if cell.items() >= final.items()}
    for seed, method in () if options.table else product(range(SEEDS), METHODS):
        if (seed, method) not in done:
            measure(seed, method)
    sys.stdout.write(table())
    draw(FIGURE)


if __name__ == "__main__":
    main()
