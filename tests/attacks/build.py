"""Recordings and artifacts that attack their reader: the tests see each refused.

Each function fills a folder of its own. What would be read, were it believed, lies in ``SECRET`` beside those folders; what
would run creates ``PWNED``. Bombs unpack to BOMB bytes, several times what the tests allow a reader to take.
"""

import json
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import pyarrow as pa
from carriers import ROWS, lerobot, npy, npz, pairs, png, policy, replay, robomimic

from postbc.storage.manifest import write_manifest

SECRET, PWNED, BOMB = "secret.npy", "pwned", 2**28
ATTACKS = {}


def attack(made):
    """List a function."""
    ATTACKS[made.__name__] = made
    return made


class Payload:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return Path.touch, (Path(PWNED),)


# paths that lead out


@attack
def zip_traversal(path: Path) -> None:
    """An archive with members that would be unpacked beside it."""
    replay(path)
    with zipfile.ZipFile(path / "replay.zarr.zip", "w") as archive:
        for file in sorted(p for p in (path / "replay.zarr").rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(path / "replay.zarr"))
            file.unlink()
        archive.writestr("../../evil", b"")
    for folder in sorted((path / "replay.zarr").rglob("*"), reverse=True):
        folder.rmdir()
    (path / "replay.zarr").rmdir()


@attack
def npz_key_traversal(path: Path) -> None:
    """An observation that would be stored outside of the store."""
    npz(path, members={"obs/../../../evil.npy": npy(ROWS)})


@attack
def hdf5_key_traversal(path: Path) -> None:
    """Likewise in HDF5, where a dot is a name like any other in the middle of one."""
    with robomimic(path) as file:
        file["data/demo_0/obs"].create_group("..")["evil"] = ROWS


@attack
def hdf5_external_link(path: Path) -> None:
    """A group that lies in another file."""
    with h5py.File(path.parent / "outside.hdf5", "w") as other:
        other["obs/state"] = ROWS
    with robomimic(path) as file:
        del file["data/demo_0/obs"]
        file["data/demo_0/obs"] = h5py.ExternalLink("../outside.hdf5", "/obs")


@attack
def hdf5_external_storage(path: Path) -> None:
    """An array whose numbers are another file's bytes."""
    with robomimic(path) as file:
        del file["data/demo_0/obs/state"]
        file["data/demo_0/obs"].create_dataset(
            "state", ROWS.shape, np.float32, external=[(str(path.parent / SECRET), 0, ROWS.nbytes)]
        )


@attack
def hdf5_virtual(path: Path) -> None:
    """An array that is put together from another file."""
    with h5py.File(path.parent / "outside.hdf5", "w") as other:
        other["state"] = ROWS
    layout = h5py.VirtualLayout(ROWS.shape, np.float32)
    layout[:] = h5py.VirtualSource("../outside.hdf5", "state", ROWS.shape)
    with robomimic(path) as file:
        del file["data/demo_0/obs/state"]
        file["data/demo_0/obs"].create_virtual_dataset("state", layout)


@attack
def parquet_outside(path: Path) -> None:
    """A data set whose numbers lie elsewhere."""
    lerobot(path, {"action": pairs(8), "observation.seen": pairs(8)}, data_path="../../outside.parquet")


@attack
def parquet_attribute(path: Path) -> None:
    """A place that asks for attributes of objects, and for a gigabyte of zeros."""
    place = "data/{episode_index.__class__}{episode_index:0999999999d}.parquet"
    lerobot(path, {"action": pairs(8), "observation.seen": pairs(8)}, data_path=place)


@attack
def store_outside(path: Path) -> None:
    """A store that lists a segment elsewhere."""
    from postbc.demos import store
    from postbc.demos.episode import Episode

    episode = Episode(ROWS, {"state": ROWS}, ROWS[:, 0], ROWS[:, 0] > 0, {"name": "demo_0"})
    store.write_segment(path.parent / "elsewhere", "a", [episode], 10)
    (path / "store").mkdir()
    store.commit(path / "store", ["../../elsewhere/a"])


# links and what is no file


@attack
def symlink_out(path: Path) -> None:
    """A chunk that is a file of the reader's own."""
    chunk = replay(path)
    chunk.unlink()
    chunk.symlink_to(path.parent / SECRET)


@attack
def symlink_to_a_device(path: Path) -> None:
    """A chunk that never ends."""
    chunk = replay(path)
    chunk.unlink()
    chunk.symlink_to("/dev/zero")


@attack
def fifo(path: Path) -> None:
    """A chunk that never begins."""
    chunk = replay(path)
    chunk.unlink()
    os.mkfifo(chunk)


# what unpacks to much more


@attack
def zarr_zlib_bomb(path: Path) -> None:
    """A chunk of 16 numbers that unpacks to a quarter of a gigabyte."""
    replay(path, {"compressor": {"id": "zlib", "level": 9}}, zlib.compress(bytes(BOMB), 9))


@attack
def zarr_zstd_bomb(path: Path) -> None:
    """Likewise."""
    replay(path, {"compressor": {"id": "zstd", "level": 9}}, numcodecs.Zstd(9).encode(bytes(BOMB)))


@attack
def zarr_blosc_bomb(path: Path) -> None:
    """Likewise."""
    packed = numcodecs.Blosc("zstd", 9).encode(bytes(BOMB))
    replay(path, {"compressor": {"id": "blosc", "cname": "zstd", "clevel": 9, "shuffle": 1}}, packed)


@attack
def zarr_bz2_bomb(path: Path) -> None:
    """Likewise, by a compressor that says nothing of the size."""
    replay(path, {"compressor": {"id": "bz2", "level": 9}}, numcodecs.BZ2(9).encode(bytes(BOMB)))


@attack
def zip_bomb(path: Path) -> None:
    """A chunk that the archive unpacks to a quarter of a gigabyte."""
    replay(path, {"compressor": None}, bytes(BOMB))
    with zipfile.ZipFile(path / "replay.zarr.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in (path / "replay.zarr").rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(path / "replay.zarr"))
            file.unlink()


@attack
def zarr_huge(path: Path) -> None:
    """A header that claims a terabyte."""
    replay(path, {"shape": [2**38, 2], "chunks": [2**38, 2]})


@attack
def npz_huge(path: Path) -> None:
    """Likewise, and the numbers are there."""
    npz(path, members={"obs/bomb.npy": npy(np.zeros(BOMB, np.uint8))})


@attack
def hdf5_bomb(path: Path) -> None:
    """A chunk of 64 numbers that unpacks to a quarter of a gigabyte."""
    with robomimic(path) as file:
        array = file["data/demo_0/obs"].create_dataset(
            "bomb", ROWS.shape, np.float32, chunks=ROWS.shape, compression="gzip"
        )
        array.id.write_direct_chunk((0, 0), zlib.compress(bytes(BOMB), 9))


@attack
def hdf5_bomb_in_a_bomb(path: Path) -> None:
    """Likewise, packed twice."""
    with robomimic(path) as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk(ROWS.shape)
        for _ in range(2):
            made.set_deflate(9)
        space = h5py.h5s.create_simple(ROWS.shape)
        array = h5py.h5d.create(file["data/demo_0/obs"].id, b"bomb", h5py.h5t.IEEE_F32LE, space, made)
        array.write_direct_chunk((0, 0), zlib.compress(zlib.compress(bytes(BOMB), 9), 9))


@attack
def hdf5_huge(path: Path) -> None:
    """An array of a terabyte of which nothing was written."""
    with robomimic(path) as file:
        file["data/demo_0/obs"].create_dataset("huge", (2**38,), np.float32, chunks=(2**20,))


@attack
def png_bomb(path: Path) -> None:
    """Small images, and one of a hundred megapixels among them."""
    cells = [{"bytes": png(8), "path": None}] * 7 + [{"bytes": png(10_000), "path": None}]
    lerobot(path, {"action": pairs(8), "observation.seen": pa.array(cells)}, "image")


@attack
def parquet_bomb(path: Path) -> None:
    """Equal rows, of which a table is made that is thousands of times as large as its file."""
    lerobot(path, {"action": pairs(BOMB // 16), "observation.seen": pairs(BOMB // 16)})


@attack
def store_bomb(path: Path) -> None:
    """A store that is whole by its manifest, and has a chunk that unpacks to a quarter of a gigabyte."""
    from postbc.demos import store
    from postbc.demos.episode import Episode

    episode = Episode(ROWS, {"state": ROWS}, ROWS[:, 0], ROWS[:, 0] > 0, {"name": "demo_0"})
    store.write_segment(path / "store", "a", [episode], 10)
    folder = path / "store" / "a"
    (shard,) = (p for p in (folder / "obs" / "state" / "c").rglob("*") if p.is_file())
    packed = numcodecs.Zstd(9).encode(bytes(BOMB))
    index = struct.pack("<QQ", 0, len(packed))
    shard.write_bytes(packed + index + bytes(4))
    write_manifest(folder)
    store.commit(path / "store", ["a"])


# headers


@attack
def store_bomb_before_its_index(path: Path) -> None:
    """Likewise, with the shard's index at its beginning and a harmless one at its end."""
    store_bomb(path)
    folder = path / "store" / "a"
    header = folder / "obs" / "state" / "zarr.json"
    header.write_text(header.read_text().replace('"index_location": "end"', '"index_location": "start"'))
    (shard,) = (p for p in (folder / "obs" / "state" / "c").rglob("*") if p.is_file())
    packed, small = numcodecs.Zstd(9).encode(bytes(BOMB)), numcodecs.Zstd(9).encode(ROWS.tobytes())
    index = struct.pack("<QQ", 20, len(packed))
    checked = bytes(numcodecs.CRC32C(location="end").encode(np.frombuffer(index, np.uint8)))
    body = checked + packed + small
    shard.write_bytes(body + struct.pack("<QQ", 20 + len(packed), len(small)) + bytes(4))
    write_manifest(folder)
    from postbc.demos import store

    store.commit(path / "store", ["a"])


@attack
def zarr_header(path: Path) -> None:
    """A header of two megabytes."""
    replay(path, {"more": "x" * 2**21})


@attack
def npy_header(path: Path) -> None:
    """A header of a megabyte, which Python's parser would be given."""
    header = b"(" * 2**20
    data = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header
    npz(path, members={"obs/odd.npy": data})


@attack
def json_long(path: Path) -> None:
    """A description of 65 MiB."""
    npz(path, said=json.dumps({"task": "x" * (65 * 2**20)}))


@attack
def json_deep(path: Path) -> None:
    """Brackets in brackets."""
    npz(path, said="[" * 10**6)


@attack
def safetensors_header(path: Path) -> None:
    """Weights whose header claims to be longer than any file."""
    policy(path, struct.pack("<Q", 2**62) + b"{}")


# code


@attack
def npz_pickle(path: Path) -> None:
    """Objects for numbers."""
    npz(path, members={"obs/evil.npy": npy(np.array([Payload()] * 8, object), allow_pickle=True)})


@attack
def zarr_pickle(path: Path) -> None:
    """Likewise."""
    packed = pickle.dumps(np.array([Payload()] * 8, object))
    replay(path, {"dtype": "|O", "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}, packed)


@attack
def zarr_pickle_filter(path: Path) -> None:
    """Numbers that a filter would unpickle."""
    replay(path, {"compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}, pickle.dumps(Payload()))


@attack
def hdf5_objects(path: Path) -> None:
    """Text for numbers."""
    with robomimic(path) as file:
        file["data/demo_0/obs/text"] = [pickle.dumps(Payload(), 0).decode()] * 8


@attack
def module_beside(path: Path) -> None:
    """A module that the reader would import, were the current folder searched."""
    (path.parent / "av.py").write_text(f"from pathlib import Path; Path({PWNED!r}).touch()")
    npz(path, members={"obs/evil.npy": b""})


@attack
def weights_pickle(path: Path) -> None:
    """Weights that torch.load would run."""
    policy(path, pickle.dumps(Payload()))


@attack
def yaml_tag(path: Path) -> None:
    """Parameters that an unsafe loader would run."""
    (path / "params.yaml").write_text(f"task: !!python/object/apply:pathlib.Path.touch [{PWNED}]\n")


def build(folder: Path, name: str) -> Path:
    """Write one attack below ``folder``."""
    path = folder / name
    path.mkdir(parents=True)
    np.save(folder / SECRET, np.full(ROWS.shape, 42, np.float32))
    ATTACKS[name](path)
    return path
