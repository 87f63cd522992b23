"""Recordings of any structure: what was written comes back to the last bit, or a named error says why not."""

import json
import tempfile
from pathlib import Path

import h5py
import numpy as np
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from recordings import at

from postbc.demos.ingest import ingest
from postbc.demos.readers import find_sources
from postbc.demos.store import read_store
from postbc.errors import DataError

DTYPES = ("<f4", "<f8", "<f2", "<i8", "<i4", "|u1", "|b1", ">f4", "<u2", "<c8", "<U3")
LENGTHS = st.integers(0, 5)
tail = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def arrays(draw, length):
    """An array, usually of the episode's length and of ordinary numbers."""
    odd = draw(st.integers(0, 9)) == 0
    dtype = np.dtype(draw(st.sampled_from(DTYPES if odd else DTYPES[:6])))
    first = draw(LENGTHS) if draw(st.integers(0, 9)) == 0 else length
    values = draw(hnp.arrays(dtype, (first, *draw(tail))))
    return values


@st.composite
def recorded(draw):
    """One episode: what lies under which name."""
    length = draw(st.integers(1, 5))
    shape = (length, draw(st.integers(1, 3)))
    action = draw(hnp.arrays(np.float32, shape, elements=st.floats(-1, 1, width=32)))
    found = {"action": action, "reward": np.zeros(length, np.float32)}
    for key in draw(st.lists(st.sampled_from(["state", "img", "a.b", "x y", "..", "é"]), unique=True, max_size=3)):
        found[f"obs/{key}"] = draw(arrays(length))
    for key in draw(
        st.lists(st.sampled_from(sorted(found)), max_size=1) if draw(st.integers(0, 9)) == 0 else st.just([])
    ):
        del found[key]
    return found


def as_npz(path, episodes):
    path.mkdir()
    (path / "episodes.json").write_text(json.dumps({"fps": 10}))
    for number, episode in enumerate(episodes):
        np.savez(path / f"{number}.npz", **episode)


def as_robomimic(path, episodes):
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        for number, episode in enumerate(episodes):
            demo = file.create_group(f"data/demo_{number}")
            demo.create_group("obs")
            for key, values in episode.items():
                name = {"action": "actions", "reward": "rewards"}.get(key, key)
                demo[name] = values.astype("S3") if values.dtype.kind == "U" else values


def as_zarr(path, episodes):
    root = zarr.open_group(path, mode="w", zarr_format=2)
    for key in episodes[0]:
        parts = [episode[key] for episode in episodes if key in episode]
        if key == "reward" or len({part.shape[1:] for part in parts}) > 1 or parts[0].dtype.kind == "U":
            continue
        root.create_array(f"data/{key.removeprefix('obs/')}", data=np.concatenate(parts))
    ends = np.cumsum([len(next(iter(episode.values()), ())) for episode in episodes])
    root.create_array("meta/episode_ends", data=ends)


def expected(values):
    return values if values.dtype == np.uint8 and values.ndim == 4 else values.astype(np.float32)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.lists(recorded(), min_size=1, max_size=3), st.sampled_from([as_npz, as_robomimic, as_zarr]))
def test_what_is_taken_is_what_was_recorded(episodes, write):
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        path = Path(folder) / "set"
        try:
            write(path, episodes)
        except (ValueError, TypeError, OSError):
            return  # the format can not hold it
        store = Path(folder) / "store"
        try:
            ingest(find_sources(Path(folder)), store, at(10))
        except DataError as error:
            assert folder in str(error)
            assert not (store / "store.json").exists()
            return
        for stored, given_ in zip(read_store(store), episodes, strict=True):
            assert np.array_equal(stored.action, given_["action"])
            for key, values in stored.obs.items():
                assert np.array_equal(values, expected(given_[f"obs/{key}"]))
