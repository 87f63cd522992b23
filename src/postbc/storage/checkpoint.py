"""Checkpoints of a run in progress: tensors as safetensors, the rest as JSON, whole or absent, tied to their inputs."""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from postbc.errors import IntegrityError
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import check_manifest, write_manifest
from postbc.storage.tensors import load_tensors

Nested = dict[str, Any]
log = logging.getLogger("postbc")


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
    """The last two checkpoints of one run, each in a folder of its own; ignored when the run's identity changed.

    ``identity`` covers everything the run depends on, so a checkpoint is never continued with other settings. The older one is
    gone on from where the newer one is damaged. Those of another run are replaced, or put aside where they are ``precious``.
    """

    def __init__(self, folder: Path, run_identity: str, precious: bool = False) -> None:
        self.folder, self.identity, self.precious = folder, run_identity, precious
        self.previous = folder.with_name(f"{folder.name}.previous")
        self._others = False  # whether another run's lie there
        self._damaged = False  # whether the newer one is

    def save(self, state: Nested) -> None:
        """Make ``state`` (nested dictionaries of tensors and JSON values) the last checkpoint, and keep the one before."""
        tensors, values = flatten(state)
        self._make_room()
        if self._damaged:  # the one before is the last that is whole: it is not pushed out by what nobody can read
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.folder.exists():
            shutil.rmtree(self.previous, ignore_errors=True)
            self.folder.rename(self.previous)
        self._damaged = False
        with atomic_folder(self.folder) as building:
            save_file(tensors, building / "state.safetensors")
            write_json(building / "state.json", {"identity": self.identity, "values": values})
            write_manifest(building)

    def load(self) -> Nested | None:
        """The state to go on from, or None when there is none that fits.

        Raises IntegrityError when their bytes changed, be they this run's or another's: a damaged identity tells nothing.
        """
        there = [folder for folder in (self.folder, self.previous) if folder.exists()]
        for folder in there:
            try:
                return self._read(folder)
            except IntegrityError as error:
                if folder == there[-1]:
                    raise
                self._damaged = True
                log.warning("%s Going on from the checkpoint before.", error)
        return None

    def _read(self, folder: Path) -> Nested | None:
        check_manifest(folder)
        recorded = read_json(folder / "state.json")
        if recorded["identity"] != self.identity:
            self._others = True
            log.warning("%s is of a run with other settings or inputs: this one begins anew.", folder)
            return None
        return unflatten({**load_tensors(folder / "state.safetensors"), **recorded["values"]})

    def _make_room(self) -> None:
        for folder in (self.folder, self.previous):
            if self._others and self.precious and folder.exists():
                aside = folder.with_name(f"{folder.name}.{folder.stat().st_mtime_ns}")
                log.warning("the checkpoint of the run before is kept as %s", folder.rename(aside))
        self._others = False

    def clear(self) -> None:
        """Forget the checkpoint once the finished artifact is in place."""
        self._make_room()
        for folder in (self.folder, self.previous):
            shutil.rmtree(folder, ignore_errors=True)
