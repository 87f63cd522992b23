"""A policy on disk: a LeRobot ``pretrained_model/`` folder, written and read without importing LeRobot (10 s and more).

``config.json`` is what LeRobot writes for :class:`~postbc.policies.configuration_postbc.PostbcConfig`; the normalisers are
part of ``model.safetensors``, so the processor pipelines only rename, batch and move. A test opens the folder with LeRobot.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from postbc.demos.frames import ENVIRONMENT, IMAGE, STATE
from postbc.errors import IntegrityError
from postbc.features import Features
from postbc.observation import ObsShape
from postbc.policies.cvae import CvaePolicy
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.flow import FlowPolicy
from postbc.policies.generative import EVEN, QUADRATIC, GenerativePolicy, PolicyShape
from postbc.policies.policy import Latent, Policy
from postbc.policies.steering import Actor
from postbc.policies.value import TwinValue
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import check_manifest, write_manifest
from postbc.storage.tensors import load_tensors

_DEVICE_STEP = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
_PREPROCESSOR = [
    {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
    {"registry_name": "to_batch_processor", "config": {}},
    _DEVICE_STEP,
]


KINDS: dict[str, type[GenerativePolicy]] = {"diffusion": DiffusionPolicy, "flow": FlowPolicy, "cvae": CvaePolicy}


Extras = tuple[dict[str, Any] | None, dict[str, Any] | None]


def build_policy(shape: PolicyShape, latent: Latent, extras: Extras = (None, None), scale: float = 0.0) -> Policy:
    """A policy of this form with fresh weights; ``extras`` are a steering actor's hidden, layers and bound, and a scorer's
    hidden, layers and samples.

    Raises IntegrityError for a kind or a spacing that there is not.
    """
    for asked, known in ((shape.kind, tuple(KINDS)), (shape.spacing, (EVEN, QUADRATIC))):
        if asked not in known:
            raise IntegrityError(f"config.json asks for {asked!r}; there is {', '.join(known)}.")
    model, (steering, scoring) = KINDS[shape.kind](shape), extras
    features, width = model.observer.features, model.latent_dim + shape.conditional
    actor = Actor(features, width, **steering) if steering else None
    if not scoring:
        return Policy(model, latent, actor, scale)
    scorer = TwinValue(features, shape.chunk_dim, scoring["hidden"], scoring["layers"])
    return Policy(model, latent, actor, scale, scorer, scoring["samples"])


def _extras(policy: Policy) -> Extras:
    steering, scoring = None, None
    if policy.actor is not None:
        network = policy.actor.network
        form = {"hidden": network.first.out_features, "layers": len(network.blocks)}
        steering = {**form, "bound": policy.actor.bound}
    if policy.scorer is not None:
        scoring = {**policy.scorer.shape, "samples": policy.samples}
    return steering, scoring


def _features(shape: ObsShape) -> dict[str, Any]:
    seen: dict[str, Any] = {STATE: {"type": "STATE", "shape": [shape.state]}}
    if shape.environment:
        seen[ENVIRONMENT] = {"type": "ENV", "shape": [shape.environment]}
    if shape.pixels:
        seen[IMAGE] = {"type": "VISUAL", "shape": list(shape.pixels)}
    return seen


def _config(policy: Policy) -> dict[str, Any]:
    shape, (steering, scorer) = policy.model.shape, _extras(policy)
    return {
        "type": "postbc",
        "n_obs_steps": shape.obs.history,
        "device": "cpu",
        "push_to_hub": False,
        "input_features": _features(shape.obs),
        "output_features": {"action": {"type": "ACTION", "shape": [shape.action_dim]}},
        "chunk_size": shape.chunk,
        "hidden": shape.hidden,
        "layers": shape.layers,
        "denoising_steps": shape.denoising_steps,
        "inference_steps": shape.inference_steps,
        "spacing": shape.spacing,
        "kind": shape.kind,
        "conditional": shape.conditional,
        "tuned_steps": shape.tuned_steps,
        "features": None if shape.features is None else shape.features.json(),
        "scale": policy.scale,
        "latent": str(policy.latent),
        "steering": steering,
        "scorer": scorer,
    }


def shape_from_config(config: dict[str, Any]) -> PolicyShape:
    """The form of the policy that a ``config.json`` describes."""
    sizes = {name: feature["shape"] for name, feature in config["input_features"].items()}
    environment = sizes[ENVIRONMENT][0] if ENVIRONMENT in sizes else 0
    seen = ObsShape(sizes[STATE][0], environment, sizes.get(IMAGE), config["n_obs_steps"])
    return PolicyShape(
        obs=seen,
        action_dim=config["output_features"]["action"]["shape"][0],
        chunk=config["chunk_size"],
        hidden=config["hidden"],
        layers=config["layers"],
        denoising_steps=config["denoising_steps"],
        inference_steps=config["inference_steps"],
        spacing=config.get("spacing", EVEN),  # older folders say nothing
        kind=config["kind"],
        conditional=config["conditional"],
        tuned_steps=config["tuned_steps"],
        features=Features.of(config["features"]) if config["features"] else None,
    )


def save_policy(policy: Policy, folder: Path) -> None:
    """Write the LeRobot policy folder, whole or not at all."""
    weights = {f"policy.{k}": v.detach().contiguous().cpu() for k, v in policy.state_dict().items()}
    with atomic_folder(folder) as building:
        write_json(building / "config.json", _config(policy))
        save_file(weights, building / "model.safetensors", metadata={"format": "pt"})
        for name, steps in (("policy_preprocessor", _PREPROCESSOR), ("policy_postprocessor", [_DEVICE_STEP])):
            write_json(building / f"{name}.json", {"name": name, "steps": steps})
        write_manifest(building)


def load_policy(folder: Path, latent: Latent | None = None, scale: float | None = None) -> Policy:
    """Open a policy folder; ``latent`` and ``scale`` replace how the noise is chosen and what a conditional policy is told.

    Raises IntegrityError when a file is missing, altered or does not fit its configuration.
    """
    check_manifest(folder)
    config = read_json(folder / "config.json")
    try:
        chosen, extras = config["scale"] if scale is None else scale, (config["steering"], config["scorer"])
        policy = build_policy(shape_from_config(config), latent or Latent(config["latent"]), extras, chosen)
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{folder}/config.json describes no policy of this version ({error!r}).") from error
    weights = {k.removeprefix("policy."): v for k, v in load_tensors(folder / "model.safetensors").items()}
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        raise IntegrityError(f"{folder}: weights and config.json do not fit: {error}") from error
    return policy.eval()
