"""A small run of the pipeline on disk: real model folders with tiny networks, an evaluation, a dvc.lock."""

from pathlib import Path
from typing import Any

import torch

from postbc.config import Config, FinetuneConfig, FinetuneRobotConfig, IngestConfig, TaskConfig
from postbc.finetune.critics import Critics, save_critics
from postbc.observation import ObsShape
from postbc.policies.folder import build_policy, save_policy
from postbc.policies.generative import PolicyShape
from postbc.policies.policy import Latent
from postbc.posterior.ensemble import Ensemble
from postbc.posterior.models import save_model
from postbc.storage.atomic import write_json
from postbc.storage.manifest import fingerprint, write_manifest
from postbc.tracking.models import POLICIES

SHAPE = PolicyShape(ObsShape(3, 2), 2, 4, hidden=8, layers=1, denoising_steps=10, inference_steps=2)
LOCK = """schema: '2.0'
stages:
  convert:
    deps:
    - {path: data/lift, hash: md5, md5: 11111111111111111111111111111111.dir}
    outs:
    - {path: artifacts/dataset, hash: md5, md5: 22222222222222222222222222222222.dir}
  pretrain@postbc:
    deps:
    - {path: artifacts/dataset, hash: md5, md5: 22222222222222222222222222222222.dir}
    params:
      params.yaml: {seed: 0}
    outs:
    - {path: artifacts/pretrained/postbc, hash: md5, md5: 33333333333333333333333333333333.dir}
  pretrain@bc:
    outs:
    - {path: artifacts/pretrained/bc, hash: md5, md5: 44444444444444444444444444444444.dir}
"""


def config(**changes: Any) -> Config:
    changes.setdefault("finetune_robot", FinetuneRobotConfig(finetune=FinetuneConfig(envs=1)))
    return Config(task=TaskConfig(name="lift", env="lift"), ingest=IngestConfig(source="data/lift"), **changes)


def make_policy(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    save_policy(build_policy(SHAPE, Latent.SAMPLE), folder)


def result(success: float, env_steps: int = 0) -> dict[str, Any]:
    low, high = max(0.0, success - 0.1), min(1.0, success + 0.1)
    return {"success": success, "low": low, "high": high, "episodes": 50, "env_steps": env_steps}


def make_evaluation(root: Path, simulator: dict[str, str] | None = None, **lives: dict[str, float]) -> None:
    """Write metrics/evaluation.json of the policies there are: life → method → success; finetuning costs 1000 steps a life."""
    steps = {"finetuned_sim": 1000, "finetuned_sim_on_robot": 1000, "finetuned_robot": 2000}
    rows = {life: {m: result(s, steps.get(life, 0)) for m, s in row.items()} for life, row in lives.items()}
    policies = {
        life: {m: root / path.format(method=m) for m in ("bc", "postbc")} for life, (path, _) in POLICIES.items()
    }
    known = {life: {m: fingerprint(path) for m, path in by.items() if path.is_dir()} for life, by in policies.items()}
    write_json(root / "metrics/evaluation.json", {**rows, "simulator": simulator or {}, "policies": known})


def make_run(root: Path) -> None:
    artifacts = root / "artifacts"
    posterior = artifacts / "posterior"
    posterior.mkdir(parents=True)
    torch.manual_seed(0)
    save_model(Ensemble(ObsShape(3, 2).json(), 8, members=3, hidden=4, layers=1), posterior)
    write_manifest(posterior)
    for number, method in enumerate(("bc", "postbc")):
        make_policy(artifacts / "pretrained" / method, number)
        make_policy(artifacts / "finetuned_sim" / method / "policy", 10 + number)
        make_policy(artifacts / "finetuned_robot" / method / "policy", 20 + number)
        make_critics(artifacts / "finetuned_sim" / method / "critics")
    (root / "dvc.lock").write_text(LOCK)
    (root / "data.dvc").write_text("outs:\n- {md5: 55555555555555555555555555555555.dir, path: data, hash: md5}\n")
    make_evaluation(
        root,
        pretrained={"bc": 0.4, "postbc": 0.5},
        finetuned_sim={"bc": 0.9, "postbc": 0.8},
        pretrained_on_robot={"bc": 0.3, "postbc": 0.2},
        finetuned_sim_on_robot={"bc": 0.2, "postbc": 0.6},
        finetuned_robot={"bc": 0.1, "postbc": 0.6},
    )


def make_critics(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    save_critics(Critics(ObsShape(3, 2), 8, hidden=8, layers=1), folder)
