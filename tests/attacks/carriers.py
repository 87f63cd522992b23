"""Small recordings and artifacts, sound but for what a test changes in them."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from PIL import Image

from postbc.storage.manifest import write_manifest

ROWS = np.arange(16, dtype=np.float32).reshape(8, 2) + 1


def robomimic(path: Path, **extra) -> h5py.File:
    file = h5py.File(path / "demos.hdf5", "w")
    demo = file.create_group("data/demo_0")
    for key, values in {"actions": ROWS, "rewards": ROWS[:, 0], "obs/state": ROWS, **extra}.items():
        demo[key] = values
    return file


def replay(path: Path, header: dict | None = None, chunk: bytes | None = None) -> Path:
    """A replay buffer of Diffusion Policy whose ``data/state`` has another header or chunk."""
    root = zarr.open_group(path / "replay.zarr", mode="w", zarr_format=2)
    for key in ("data/action", "data/state"):
        root.create_array(key, data=ROWS, chunks=ROWS.shape)
    root.create_array("meta/episode_ends", data=np.array([len(ROWS)]))
    state = path / "replay.zarr" / "data" / "state"
    recorded = json.loads((state / ".zarray").read_text())
    (state / ".zarray").write_text(json.dumps({**recorded, **(header or {})}))
    if chunk is not None:
        (state / "0.0").write_bytes(chunk)
    return state / "0.0"


def lerobot(path: Path, columns: dict[str, pa.Array], dtype: str = "float32", data_path: str | None = None) -> None:
    """A LeRobotDataset v2.1 of one episode."""
    (path / "meta").mkdir()
    (path / "data").mkdir()
    count = len(next(iter(columns.values())))
    feature = {"dtype": dtype, "shape": [2] if dtype == "float32" else [8, 8, 3], "names": None}
    info = {
        "codebase_version": "v2.1", "fps": 10, "data_path": data_path or "data/{episode_index:06d}.parquet",
        "features": {"action": {"dtype": "float32", "shape": [2], "names": None}, "observation.seen": feature},
    }  # fmt: skip
    (path / "meta" / "info.json").write_text(json.dumps(info))
    (path / "meta" / "episodes.jsonl").write_text(json.dumps({"episode_index": 0, "tasks": [], "length": count}))
    table = pa.table({**columns, "episode_index": pa.array(np.zeros(count, np.int64))})
    pq.write_table(table, path / "data" / "000000.parquet")


def pairs(count: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * count, np.float32)), 2)


def npz(path: Path, said: str = "{}", members: dict[str, bytes] | None = None) -> None:
    (path / "episodes.json").write_text(said)
    np.savez(path / "0.npz", action=ROWS, **{"obs/state": ROWS})
    with zipfile.ZipFile(path / "0.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (members or {}).items():
            archive.writestr(name, data)


def policy(path: Path, weights: bytes) -> None:
    """A policy folder, whole by its manifest, with other weights."""
    from postbc.observation import ObsShape
    from postbc.policies.folder import build_policy, save_policy
    from postbc.policies.generative import PolicyShape
    from postbc.policies.policy import Latent

    path.rmdir()
    save_policy(build_policy(PolicyShape(ObsShape(2, 0), 2, 4, 8, 1, 4, 2), Latent.SAMPLE), path)
    (path / "model.safetensors").write_bytes(weights)
    write_manifest(path)


def npy(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def png(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()
