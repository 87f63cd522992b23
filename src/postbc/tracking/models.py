"""The models of a run: which artifact folder is registered under which name."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from postbc.config import Config
from postbc.errors import DataError

# life → where its policies lie, and the stage that makes them
POLICIES = {
    "pretrained": ("artifacts/pretrained/{method}", "pretrain"),
    "finetuned_sim": ("artifacts/finetuned_sim/{method}/policy", "finetune_sim"),
    "finetuned_robot": ("artifacts/finetuned_robot/{method}/policy", "finetune_robot"),
}
CRITICS = {
    "finetuned_sim": ("artifacts/finetuned_sim/{method}/critics", "finetune_sim"),
    "finetuned_robot": ("artifacts/finetuned_robot/{method}/critics", "finetune_robot"),
}


@dataclass(frozen=True)
class ModelFolder:
    """An artifact folder with a manifest, and what the registry is to know about it."""

    path: Path
    name: str  # registered model name
    kind: str  # policy, posterior or critics: how pyfunc.py loads it
    life: str
    method: str
    task: str
    stage: str  # the pipeline stage that made it
    tags: dict[str, str] = field(default_factory=dict)  # lineage


def _of_method(prefix: str, task: str, method: str) -> Iterator[ModelFolder]:
    """Policies first, in the order of their life, then the critics."""
    for kind, suffix, places in (("policy", "", POLICIES), ("critics", "-critics", CRITICS)):
        for life, (path, stage) in places.items():
            folder = Path(path.format(method=method))
            yield ModelFolder(folder, f"{prefix}-{task}-{method}{suffix}", kind, life, method, task, stage)


def models_of(root: Path, config: Config) -> list[ModelFolder]:
    """Every model that the run below ``root`` made; paths are relative to ``root``.

    Raises DataError when there is none.
    """
    prefix, task = config.register.prefix, config.task.name
    name, path = f"{prefix}-{task}-posterior", Path("artifacts/posterior")
    posterior = ModelFolder(path, name, "posterior", "posterior", "posterior", task, "posterior")
    made = [posterior, *(m for method in config.methods for m in _of_method(prefix, task, method))]
    present = [model for model in made if (root / model.path).is_dir()]
    if not present:
        raise DataError(f"{root / 'artifacts'} holds no model: run `dvc repro` first.")
    return present


def signature(kind: str, folder: Path) -> Any:
    """MLflow signature of the model in ``folder``; loading it proves that what is registered loads."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from postbc.tracking.pyfunc import load, predict

    def spec(name: str | None, *shape: int) -> TensorSpec:
        return TensorSpec(np.dtype("float32"), (-1, *shape), name)

    model = load(kind, str(folder))
    obs = spec("obs", model.obs_dim)
    if kind == "policy":
        return ModelSignature(Schema([obs]), Schema([spec(None, model.chunk, model.action_dim)]))
    if kind == "critics":
        return ModelSignature(Schema([obs, spec("choice", model.choice_dim)]), Schema([spec(None)]))
    answer = predict(kind, model, {"obs": np.zeros((1, model.obs_dim), np.float32)})
    outputs = [spec(name, value.shape[1]) for name, value in dict(answer).items()]
    return ModelSignature(Schema([obs]), Schema(outputs))
