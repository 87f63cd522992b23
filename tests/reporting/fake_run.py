"""A finished run as it lies on disk, with made-up numbers that are easy to find again."""

import base64
from pathlib import Path

from postbc.config import Config, FinetuneConfig, FinetuneRobotConfig, IngestConfig, TaskConfig
from postbc.storage.atomic import write_json

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ROWS = {  # life: (bc successes, postbc successes, env_steps), of 50
    "pretrained": (20, 23, 0),
    "pretrained_zero": (27, 26, 0),
    "finetuned_sim": (31, 44, 8000),
    "pretrained_on_robot": (11, 13, 0),
    "finetuned_sim_on_robot": (17, 29, 8000),
    "finetuned_robot": (24, 37, 11000),
}
DIFFERENCES = {  # life: value, low, high
    "pretrained": (0.06, -0.121, 0.242),
    "finetuned_sim": (0.26, 0.087, 0.433),
    "finetuned_robot": (0.26, 0.063, 0.457),
}
LOCK = """schema: '2.0'
stages:
  pretrain@bc:
    cmd: python -m stages.pretrain
    deps:
    - {path: artifacts/dataset, hash: md5, md5: aaaabbbbccccddddeeeeffff00001111.dir}
    outs:
    - {path: artifacts/pretrained/bc, hash: md5, md5: 0123456789abcdef0123456789abcdef.dir}
  report:
    outs:
    - {path: reports/index.html, hash: md5, md5: 99999999999999999999999999999999}
"""


def config() -> Config:
    return Config(
        task=TaskConfig(name="lift", env="lift", instruction="Lift the <red> cube."),
        ingest=IngestConfig(source="data/lift"),
        finetune_robot=FinetuneRobotConfig(finetune=FinetuneConfig(envs=1)),
    )


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """The 95 % Wilson interval."""
    z, p = 1.96, successes / episodes
    centre, half = p + z * z / (2 * episodes), z * (p * (1 - p) / episodes + (z / (2 * episodes)) ** 2) ** 0.5
    return (centre - half) / (1 + z * z / episodes), (centre + half) / (1 + z * z / episodes)


def result(successes: int, env_steps: int) -> dict[str, float]:
    low, high = wilson(successes, 50)
    reward = round(0.5 + successes / 137, 3)
    counts = {"episodes": 50, "env_steps": env_steps}
    return {"success": successes / 50, "low": low, "high": high, "mean_max_reward": reward, **counts}


def write_evaluation(root: Path, **changes: object) -> None:
    lives = {k: {"bc": result(b, s), "postbc": result(p, s)} for k, (b, p, s) in ROWS.items()}
    keys = ("success", "low", "high")
    differences = {life: dict(zip(keys, row, strict=True)) for life, row in DIFFERENCES.items()}
    write_json(root / "metrics/evaluation.json", {**lives, "difference": differences, **changes})


def write_curve(path: Path, successes: list[int], every: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["env_steps,success,low,high,return"]
    for number, count in enumerate(successes):
        low, high = wilson(count, 50)
        lines.append(f"{number * every},{count / 50},{low:.4f},{high:.4f},{count * 1.5}")
    path.write_text("\n".join(lines) + "\n")


def make_run(root: Path) -> None:
    """Everything that a run leaves for the report."""
    write_evaluation(root)
    write_curve(root / "plots/finetune_sim.bc.csv", [20, 22, 26, 29, 31], 2000)
    write_curve(root / "plots/finetune_sim.postbc.csv", [23, 31, 38, 42, 44], 2000)
    write_curve(root / "plots/finetune_robot.bc.csv", [17, 20, 22, 24], 1000)
    write_curve(root / "plots/finetune_robot.postbc.csv", [29, 33, 36, 37], 1000)
    lines = ["state,who,action_0,action_1"]
    for number, state in enumerate(("most certain", "typical", "least certain")):
        lines.append(f"{state},demonstrated,0.{number},-0.5")
        lines += [f"{state},{who},{0.1 * k},{-0.1 * k}" for who in ("posterior", "bc", "postbc") for k in range(4)]
    (root / "plots/actions.csv").write_text("\n".join(lines) + "\n")
    for folder in ("artifacts/posterior", "artifacts/videos"):
        (root / folder).mkdir(parents=True)
    (root / "artifacts/posterior/spread.png").write_bytes(PIXEL)
    for life in ("pretrained", "finetuned_sim"):
        for method in ("bc", "postbc"):
            (root / f"artifacts/videos/{life}.{method}.mp4").write_bytes(f"{life} {method}".encode())
    rows = [
        {
            "name": "postbc-lift-bc",
            "kind": "policy",
            "version": 1,
            "life": "pretrained",
            "sha256": "ab" * 32,
            "aliases": [],
        },
        {
            "name": "postbc-lift-postbc",
            "version": 3,
            "kind": "policy",
            "life": "finetuned_robot",
            "sha256": "cd" * 32,
            "aliases": ["candidate", "champion"],
        },
    ]
    write_json(root / "metrics/registry.json", rows)
    (root / "dvc.lock").write_text(LOCK)
    (root / "data.dvc").write_text("outs:\n- {md5: 55556666777788889999000011112222.dir, path: data, hash: md5}\n")
