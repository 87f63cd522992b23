"""A tiny DVC project whose stages fail on demand and whose robot is a file."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

SOURCE = Path(__file__).resolve().parents[2]
ROBOT = """
import json, sys
from pathlib import Path
from postbc.robots.arming import FOLDER, Request, consume
request = {"robot": "twin", "policy": "a" * 64, "limits": "b" * 64}
if "--request" in sys.argv:
    print(json.dumps(request))
else:
    Path("robot").write_text(consume(FOLDER, Request(**request)).operator)
"""
STAGES = {
    "last": {"cmd": "cat a b > z", "deps": ["a", "b"], "outs": ["z"]},
    "first": {"cmd": "echo hello; cat switch > a", "deps": ["switch"], "outs": ["a"]},
    "middle": {
        "matrix": {"m": ["x", "y"]},
        "cmd": "seq 1 40; grep -q works a && cp a ${item.m}",
        "deps": ["a"],
        "outs": ["${item.m}"],
        "meta": {"prefect": {"retries": 0, "timeout": 60}},
    },
    "join": {"cmd": "cat x y > b", "deps": ["x", "y"], "outs": ["b"]},
}
GATED = {
    "first": STAGES["first"],
    "finetune_robot": {
        "matrix": {"method": ["bc"]},
        "cmd": "python -m stages.finetune_robot --method ${item.method}",
        "deps": ["a"],
        "outs": ["robot"],
        "meta": {"prefect": {"gate": "operator", "retries": 0, "timeout": 3600}},
    },
}


def make_project(root: Path, stages: dict) -> Path:
    """A DVC repository without Git in ``root``; its stages work while ``switch`` says ``works``."""
    root.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"DVC_NO_ANALYTICS": "true"}
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True, env=env)
    (root / "switch").write_text("works\n")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (root / "stages").mkdir()
    (root / "stages" / "__init__.py").touch()
    (root / "stages" / "finetune_robot.py").write_text(ROBOT)
    return root


def ran(root: Path) -> set[str]:
    """The stages that ran."""
    lock = root / "dvc.lock"
    return set(yaml.safe_load(lock.read_text())["stages"]) if lock.exists() else set()
