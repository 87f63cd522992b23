"""Checkpoints of a run in progress: tensors as safetensors, the rest as JSON, whole or absent, tied to their inputs."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from postbc.errors import IntegrityError
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import check_manifest, write_manifest

Nested = dict[str, Any]


def identity(*parts: Any) -> str:
    """Hex sha256 of JSON-able ``parts``: the configuration and input fingerprints that a run depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def flatten(tree: Nested, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split a nested dictionary into tensors and plain values, both keyed by ``a/b/c`` paths."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Tensor):
            tensors[path] = value.detach().contiguous().cpu().clone()
        elif isinstance(value, dict):
            inner = flatten(value, f"{path}/")
            tensors |= inner[0]
            values |= inner[1]
        else:
            values[path] = value
    return tensors, values


def unflatten(flat: dict[str, Any]) -> Nested:
    """Inverse of :func:`flatten`; keys that are all digits become integers (optimiser states)."""
    tree: dict[Any, Any] = {}
    for path, value in flat.items():
        node = tree
        *parents, leaf = [int(k) if k.isdigit() else k for k in path.split("/")]
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = value
    return tree


class Checkpoints:
    """The last checkpoint of one run, in a folder of its own; ignored when the run's identity changed.

    ``identity`` covers everything the run depends on, so a checkpoint is never continued with other settings.
    """

    def __init__(self, folder: Path, run_identity: str) -> None:
        self.folder, self.identity = folder, run_identity

    def save(self, state: Nested) -> None:
        """Replace the checkpoint by ``state`` (nested dictionaries of tensors and JSON values)."""
        tensors, values = flatten(state)
        with atomic_folder(self.folder) as building:
            save_file(tensors, building / "state.safetensors")
            write_json(building / "state.json", {"identity": self.identity, "values": values})
            write_manifest(building)

    def load(self) -> Nested | None:
        """The state to go on from, or None when there is none that fits.

        Raises IntegrityError for a checkpoint of this very run whose bytes changed.
        """
        if not self.folder.exists():
            return None
        try:
            recorded = read_json(self.folder / "state.json")
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{self.folder}/state.json cannot be read ({error}); delete {self.folder}.") from error
        if recorded["identity"] != self.identity:
            return None
        check_manifest(self.folder)
        return unflatten({**load_file(self.folder / "state.safetensors"), **recorded["values"]})

    def clear(self) -> None:
        """Forget the checkpoint once the finished artifact is in place."""
        shutil.rmtree(self.folder, ignore_errors=True)
