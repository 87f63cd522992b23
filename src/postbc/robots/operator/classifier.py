"""LeRobot's reward classifier as a check: an image network that says whether the task is done.

LeRobot builds it around an encoder from transformers, which ``config.json`` names, and lets that encoder bring its own code:
use only classifiers that you trained. Their images are normalised as in training, which LeRobot's own use leaves out.
"""

import contextlib
import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from postbc.errors import ConfigError

_FIELD = "finetune_robot.robot.operator.reward_classifier"
_IMAGES = "observation.images."
_PROCESSOR = "classifier_preprocessor.json"


class RewardClassifier:
    """Done when the probability of success is above ``threshold``.

    Args:
        folder: ``pretrained_model/`` of a classifier that lerobot-train made.
        threshold: in (0, 1).
        features: what the robot observes; cameras are (h, w, 3), scaled to the size that the classifier was trained on.

    Raises ConfigError for a folder that holds no such classifier, for one that reads cameras which the robot lacks, and without
    transformers.
    """

    def __init__(self, folder: str, threshold: float, features: Mapping[str, Any]) -> None:
        self.threshold = threshold
        config = _read_config(Path(folder))
        self.sizes = _cameras(config, features)
        self.model, self.prepare = _load(Path(folder))

    def check(self, observation: Mapping[str, Any]) -> bool:
        """Whether the classifier sees success."""
        return self.probability(observation) > self.threshold

    @torch.inference_mode()
    def probability(self, observation: Mapping[str, Any]) -> float:
        """Of success, in [0, 1]."""
        batch = {_IMAGES + name: _image(observation[name], size) for name, size in self.sizes.items()}
        ready = self.prepare(batch) if self.prepare else batch
        images = [ready[_IMAGES + name].to(self.model.config.device) for name in self.sizes]
        return float(self.model.predict(images).probabilities)


def _image(seen: Any, size: tuple[int, int]) -> torch.Tensor:
    """(h, w, C) bytes as (1, C, *size) floats in [0, 1]."""
    image = torch.from_numpy(np.ascontiguousarray(seen)).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.interpolate(image, size, mode="bilinear", antialias=True)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{_FIELD} = {str(folder)!r} is no folder of a LeRobot model: {error}.") from error
    if not isinstance(config, dict) or config.get("type") != "reward_classifier" or config.get("num_classes") != 2:
        raise ConfigError(
            f"{_FIELD} = {str(folder)!r} is not a LeRobot reward classifier of two classes (type: reward_classifier)."
        )
    return config


def _cameras(config: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Height and width of the images that the classifier reads, by the robot's camera, in the classifier's order."""
    reads = {
        name: kind["shape"] for name, kind in config["input_features"].items() if name.startswith("observation.image")
    }
    sizes = {name.removeprefix(_IMAGES): (shape[1], shape[2]) for name, shape in reads.items()}
    missing = [name for name in sizes if not isinstance(features.get(name), tuple)]
    if missing or not sizes:
        cameras = [name for name, kind in features.items() if isinstance(kind, tuple)]
        raise ConfigError(
            f"{_FIELD} reads the cameras {', '.join(sizes) or 'of nothing'}; the robot has {', '.join(cameras) or 'none'}."
        )
    return sizes


def _load(folder: Path) -> tuple[Any, Any]:
    """The classifier, and what prepares its images (None where the folder holds no such thing)."""
    if find_spec("transformers") is None:
        raise ConfigError(
            f"{_FIELD} needs transformers: `make setup` installs it, elsewhere LeRobot's extra transformers-dep does."
        )
    from lerobot.processor import PolicyProcessorPipeline
    from lerobot.rewards.classifier.modeling_classifier import Classifier

    try:
        with contextlib.redirect_stdout(sys.stderr):  # LeRobot prints; a stage's standard output is for its answer
            model = Classifier.from_pretrained(folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{_FIELD}: {error} The encoder that config.json names must be on this machine: stages do not use the Hub "
            "(HF_HUB_OFFLINE=1)."
        ) from error
    _require_weights(model, folder)
    has_processor = (folder / _PROCESSOR).exists()
    prepare = PolicyProcessorPipeline.from_pretrained(folder, config_filename=_PROCESSOR) if has_processor else None
    return model, prepare


def _require_weights(model: torch.nn.Module, folder: Path) -> None:
    """Raise ConfigError unless every weight was stored: LeRobot leaves a missing one random and only logs it."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    weights = model.state_dict()
    # Cameras share one encoder, which is stored under one of its names.
    known = {weight.data_ptr() for name, weight in weights.items() if name in stored}
    missing = [name for name, weight in weights.items() if name not in stored and weight.data_ptr() not in known]
    if missing:
        raise ConfigError(f"{_FIELD} = {str(folder)!r} lacks {len(missing)} of its weights, {missing[0]} among them.")
