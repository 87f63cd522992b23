"""A registered model as an MLflow pyfunc. This file *is* the model ("models from code"): no pickle.

MLflow copies it beside the weights and executes it on load; the rest of postbc is imported only then. The
registered folder is checked against its manifest first. Inputs are float32 arrays by name:

* policy: ``obs (B, O)`` → ``(B, H, A)``, one sampled chunk a row, raw units
* posterior: ``obs (B, O)`` → ``mean (B, D)`` and ``std (B, D)`` over the members
* critics: ``obs (B, O)`` and ``choice (B, C)`` → ``(B,)``, the value of that latent noise (Best-of-N: of that normalised chunk)
"""

import importlib
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext

from postbc.storage.manifest import check_manifest

Arrays = dict[str, np.ndarray]
LOADERS = {
    "policy": ("postbc.policies.folder", "load_policy"),
    "posterior": ("postbc.posterior.models", "load_model"),
    "critics": ("postbc.finetune.critics", "load_critics"),
}


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.array(values, dtype=np.float32))


def load(kind: str, folder: str) -> Any:
    """The torch module of a ``kind`` in ``folder``, for inference."""
    check_manifest(Path(folder))
    module, name = LOADERS[kind]
    return getattr(importlib.import_module(module), name)(Path(folder))


def predict(kind: str, model: Any, inputs: Arrays) -> np.ndarray | Arrays:
    """What ``model`` says of ``inputs``, as float32 arrays."""
    obs = _tensor(inputs["obs"])
    with torch.inference_mode():
        if kind == "policy":
            return np.asarray(model.act(obs).cpu().numpy())
        if kind == "critics":
            return np.asarray(model.value_of(obs, _tensor(inputs["choice"])).cpu().numpy())
        chunks = model.predict(obs)
        spread = {"mean": chunks.mean(1), "std": chunks.std(1, unbiased=False)}
        return {name: value.cpu().numpy() for name, value in spread.items()}


with warnings.catch_warnings(record=True):  # MLflow advises annotations, which could not say what the signature says

    class RegisteredModel(PythonModel):
        """The model of the kind that the registry recorded, loaded from its folder."""

        def load_context(self, context: PythonModelContext) -> None:
            """Load the weights; raises IntegrityError when a byte differs from the manifest."""
            self.kind = context.model_config["kind"]
            self.model = load(self.kind, context.artifacts["folder"])

        # MLflow would take annotations here for the signature.
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
            """Arrays of one batch → the model's answer; shapes and types are the signature's."""
            return predict(self.kind, self.model, model_input)


mlflow.models.set_model(RegisteredModel())
