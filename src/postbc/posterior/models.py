"""The kinds of posterior: fitted, written and opened by one name each."""

from pathlib import Path

from safetensors.torch import save_file

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames
from postbc.demos.normalizer import half_range
from postbc.errors import DataError, IntegrityError
from postbc.posterior.ensemble import Ensemble, fit_ensemble
from postbc.posterior.last_layer import LastLayer, fit_last_layer
from postbc.storage.atomic import read_json, write_json
from postbc.storage.checkpoint import Checkpoints
from postbc.storage.manifest import check_manifest
from postbc.storage.tensors import load_tensors
from postbc.training import Metrics

Posterior = Ensemble | LastLayer
MODELS: dict[str, type[Posterior]] = {"ensemble": Ensemble, "last_layer": LastLayer}
WEIGHTS = "posterior.safetensors"


def fit_posterior(
    frames: Frames, horizon: int, config: PosteriorConfig, seed: int, checkpoints: Checkpoints
) -> tuple[Posterior, list[Metrics]]:
    """Fit what ``config.kind`` names to chunks of ``horizon`` actions; returns it and the loss curve.

    Raises DataError where no number of the actions ever varies.
    """
    if not half_range(frames.action).any():
        raise DataError("Every demonstrated action is the same: there is nothing to be certain or uncertain of.")
    fit = fit_ensemble if config.kind == "ensemble" else fit_last_layer
    return fit(frames, horizon, config, seed, checkpoints)


def save_model(model: Posterior, folder: Path) -> None:
    """Write weights and ``config.json`` into ``folder``."""
    kind = next(name for name, known in MODELS.items() if isinstance(model, known))
    save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, folder / WEIGHTS)
    write_json(folder / "config.json", {"kind": kind, **model.shape})


def load_model(folder: Path) -> Posterior:
    """Open what :func:`save_model` wrote; IntegrityError when a byte changed or the kind is unknown."""
    check_manifest(folder)
    shape = read_json(folder / "config.json")
    kind = shape.pop("kind")
    if kind not in MODELS:
        raise IntegrityError(f"{folder}/config.json asks for a {kind!r} posterior; there is {', '.join(MODELS)}.")
    model = MODELS[kind](**shape)
    model.load_state_dict(load_tensors(folder / WEIGHTS))
    return model.eval()
