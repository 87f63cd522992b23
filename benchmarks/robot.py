"""How well the control rate is kept while a finetuner learns: `make bench-robot`.

The real thing, on the wall's clock: a twin in a process of its own, DSRL learning in another, chunks planned with a lead of one
control step. Beside it the same loop with nobody learning, and with the learner in the control process, as it would be without
the separation.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import record
from postbc.config import FinetuneConfig, TaskConfig
from postbc.config.robot import GuardConfig, RobotConfig
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import save_finetuned
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.learner import Learner
from postbc.finetune.remote import RemoteLearner, start_learner
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.robots import arming
from postbc.robots.environment import RobotEnv, with_limits
from postbc.robots.guard import limits_fingerprint
from postbc.robots.recorder import Recorder
from postbc.robots.remote import RemoteRobot
from postbc.robots.session import Pace, RobotVector
from postbc.sims import get_task
from postbc.storage.checkpoint import Checkpoints

TASK = TaskConfig(name="so101_lift", env="so101_lift", max_steps=150, chunk=8)
ROBOT = RobotConfig(arm="simulated", clock="wall", lead=1, guard=GuardConfig(heartbeat=1.0))
FINETUNE = FinetuneConfig(
    initial_steps=0,
    envs=1,
    batch=256,
    hidden=256,
    layers=3,
    updates_per_chunk=20,
    evaluate_every=0,
    checkpoint_every=300,
)
LEARNERS = ("none", "another process", "the control process")


class _Still(Learner):
    """Acts, and learns nothing."""

    def __init__(self, acting: Learner) -> None:
        self.acting, self.config, self.model, self.critics = acting, acting.config, acting.model, acting.critics
        self.modules, self.optimisers, self.generators = acting.modules, {}, acting.generators

    def act(self, obs: Any, exploring: bool) -> Any:
        return self.acting.act(obs, exploring)

    def store(self, obs: Any, choice: Any, step: Any) -> None:
        """Forget it."""

    def learn(self, chunks: float) -> None:
        """Nothing."""

    def policy(self) -> Any:
        return self.acting.policy()


def _learner(who: str, folder: Path, config: FinetuneConfig) -> Learner:
    if who == "another process":
        return RemoteLearner(folder, config, 0, waits=True)
    here = start_learner(folder, config, 0, False)
    return here if who == "the control process" else _Still(here)


def measure(who: str, hertz: int, seconds: float, scratch: Path) -> dict[str, Any]:
    """One session of ``seconds`` at ``hertz``."""
    task = replace(TASK, fps=hertz)
    robot, config = with_limits(ROBOT, task), replace(FINETUNE, env_steps=int(seconds * hertz))
    torch.manual_seed(0)
    shape = PolicyShape(get_task(task.env).make().shape, 6, task.chunk, 256, 3, 100, 8)
    model = DiffusionPolicy(shape).eval()
    model.action_normalizer.scale[:] = torch.tensor([20.0, 20.0, 20.0, 20.0, 20.0, 40.0])
    model.action_normalizer.centre[5] = 50.0
    save_finetuned(build_learner(model, config, 0), 0, scratch / "finetuned")
    body = RemoteRobot(robot, task)
    learner = _learner(who, scratch / "finetuned", config)
    try:
        env = RobotEnv(body, robot, hertz, get_task(task.env).features)
        body.connect(arming.Request(robot.type, "a" * 64, limits_fingerprint(robot, task.fps)), scratch / "arming")
        env.recorder = Recorder(scratch / "store", hertz, {"robot": "twin"})
        vector = RobotVector(env, Pace.of(robot, task), 1, config.discount)
        try:
            finetune(learner, Arena(vector, list(range(10_000)), Checkpoints(scratch / "c", who), restorable=False))
        finally:
            vector.close()
            env.recorder.close()
        behind = learner.behind if isinstance(learner, RemoteLearner) else 0.0
        return {**env.clock.timing.summary(), "chunks_behind": behind}
    finally:
        body.stop("measured")
        if isinstance(learner, RemoteLearner):
            learner.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of every session")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for hertz in (20, 30):
        for who in LEARNERS:
            with tempfile.TemporaryDirectory() as scratch:
                rows[f"{hertz} Hz, learning in {who}"] = measure(who, hertz, options.seconds, Path(scratch))
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    settings = {
        "seconds": options.seconds,
        "updates_per_chunk": FINETUNE.updates_per_chunk,
        "chunk": TASK.chunk,
        "lead": ROBOT.lead,
    }
    record.write("robot", ("torch", "numpy", "lerobot", "mujoco"), {"rows": rows, "settings": settings})


if __name__ == "__main__":
    main()
