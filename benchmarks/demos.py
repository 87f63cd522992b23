"""How fast demonstrations go in, out as LeRobot, and into batches; with how much memory; and what a bucket would see of it.

Each part runs in a process of its own, which says how much memory it took at most.
"""

import argparse
import json
import logging
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numcodecs
import numpy as np
import torch
import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.memory import MemoryFileSystem
from rich.console import Console
from rich.table import Table
from zarr.storage import FsspecStore

from benchmarks.record import write
from postbc.demos import convert as converting
from postbc.demos import isolation
from postbc.demos.checks import Checker, Expected
from postbc.demos.convert import View, convert
from postbc.demos.frames import load_frames
from postbc.demos.ingest import ingest
from postbc.demos.readers import find_sources
from postbc.demos.store import listed_segments, read_store
from postbc.storage.atomic import fsync_path
from postbc.storage.robomimic import Demo, write_robomimic

FPS, FRAMES, SIDE, CHUNK, BATCH = 20, 100, 84, 8, 256
KEYS = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "object": 10}
VIEW = View(
    FPS,
    "Lift the cube.",
    lambda obs: (np.concatenate([obs[key] for key in list(KEYS)[:3]], 1), obs["object"]),
    lambda obs: obs.get("agentview_image"),
)
Numbers = dict[str, Any]


def demos(count: int, images: bool) -> Iterator[Demo]:
    """Random walks of as many numbers as robosuite's Lift has, and images of blocks of colour that drift."""
    for number in range(count):
        random = np.random.default_rng(number)
        arrays = {"actions": random.uniform(-1, 1, (FRAMES, 7)), "rewards": np.arange(FRAMES) == FRAMES - 1}
        arrays |= {f"obs/{key}": np.cumsum(random.standard_normal((FRAMES, n)), 0) for key, n in KEYS.items()}
        found = {key: values.astype(np.float32) for key, values in arrays.items()}
        if images:
            scene = np.kron(random.integers(200, size=(30, 30, 3)), np.ones((7, 7, 1))).astype(np.uint8)
            scene = scene + random.integers(8, size=scene.shape, dtype=np.uint8)  # a sensor's noise
            found["obs/agentview_image"] = np.stack([scene[t : t + SIDE, t : t + SIDE] for t in range(FRAMES)])
        yield Demo(found, {"operator": "ab"[number % 2]})


def recording(folder: Path, count: int, images: bool) -> Path:
    """A robomimic file of ``count`` such episodes."""
    path = folder / f"{'image' if images else 'state'}{count}.hdf5"
    write_robomimic(path, demos(count, images), {"env_args": json.dumps({"env_kwargs": {"control_freq": FPS}})})
    return path


def copied(path: Path, target: Path) -> Numbers:
    """The floor of an ingest: read the numbers, compress them as the store does, write them in one file, flush it."""
    begun, size, codec = time.perf_counter(), 0, numcodecs.Zstd(3)
    with h5py.File(path) as file, target.open("wb") as out:
        for demo in file["data"].values():
            arrays = [demo["actions"], demo["rewards"], *demo["obs"].values()]
            for values in (np.asarray(array[()]) for array in arrays):
                out.write(codec.encode(np.ascontiguousarray(values)))
                size += values.nbytes
    fsync_path(target)
    return {"seconds": time.perf_counter() - begun, "bytes": size}


def taken(path: Path, store: Path) -> Numbers:
    """An ingest."""
    sources, begun = find_sources(path), time.perf_counter()
    counts = ingest(sources, store, Checker(Expected(FPS)))
    return {"seconds": time.perf_counter() - begun, "episodes": counts["episodes"], "files": files_in(store)}


def files_in(folder: Path) -> int:
    """How many."""
    return sum(path.is_file() for path in folder.rglob("*"))


def converted(store: Path, target: Path, count: int, as_lerobot: bool = False) -> Numbers:
    """Milliseconds an episode into a LeRobotDataset; ``as_lerobot`` by its own loop, unchanged."""
    import itertools

    convert(itertools.islice(read_store(store), 2), 2, target.with_name("warm"), VIEW)  # imports take seconds
    loop = patch.object(converting, "_sparing_the_search_for_images", lambda _: nullcontext())
    begun = time.perf_counter()
    with loop if as_lerobot else nullcontext():
        convert(itertools.islice(read_store(store), count), count, target, VIEW)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "ms_per_episode": 1e3 * seconds / count, "files": files_in(target)}


def rate(batch: Callable[[], Any], least: float = 3.0) -> float:
    """Samples a second: median of five stretches."""
    batch()
    rates = []
    for _ in range(5):
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < least / 5:
            batch()
            count += BATCH
        rates.append(count / (time.perf_counter() - begun))
    return float(np.median(rates))


def windows(dataset: Path, image_memory: float = 4.0) -> Numbers:
    """Random batches of observations and chunks of actions: ours."""
    before = anonymous()
    frames, order = load_frames(dataset, 2, image_memory), torch.Generator().manual_seed(0)

    def batch() -> Any:
        index = torch.randint(len(frames), (BATCH,), generator=order)
        return frames.rows(index), frames.chunks(index, CHUNK)

    return {"samples_per_second": rate(batch), "own_memory_mib": (anonymous() - before) / 2**20}


def anonymous() -> int:
    """Bytes of memory that are the process's own, which the system could not take back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def lerobots_windows(dataset: Path, workers: int) -> Numbers:
    """The same by LeRobot's data set and Torch's loader."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [t / FPS for t in range(CHUNK)], "observation.state": [-1 / FPS, 0.0]}
    deltas["observation.environment_state"] = [-1 / FPS, 0.0]
    if "observation.image" in (dataset / "meta" / "info.json").read_text():
        deltas["observation.image"] = [-1 / FPS, 0.0]
    opened = LeRobotDataset("bench/demos", root=dataset, delta_timestamps=deltas)
    return {"samples_per_second": rate(loader(opened, workers), 20.0)}


def loader(opened: Any, workers: int) -> Callable[[], Any]:
    """Gives the next batch of Torch's loader, epoch after epoch."""
    made = torch.utils.data.DataLoader(
        opened, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )

    def endless() -> Iterator[Any]:
        while True:
            yield from made

    stream = endless()
    return lambda: next(stream)


class Sequences(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """One window at a time, sliced from arrays in memory and padded, as Diffusion Policy's sampler does."""

    def __init__(self, dataset: Path) -> None:
        frames = load_frames(dataset)
        self.arrays = {"obs": frames.obs.numpy(), "action": frames.action.numpy()}
        if frames.pixels:
            self.arrays["image"] = frames.pixels.images.numpy()
        episode = frames.episode.numpy()
        self.first, self.last = np.searchsorted(episode, episode), frames.last.numpy()

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        found = {}
        for key, values in self.arrays.items():
            start, end = (at, at + CHUNK) if key == "action" else (at - 1, at + 1)
            rows = values[max(start, self.first[at]) : min(end, self.last[at] + 1)]
            before, after = max(self.first[at] - start, 0), max(end - self.last[at] - 1, 0)
            padded = np.concatenate([rows[:1].repeat(before, 0), rows, rows[-1:].repeat(after, 0)])
            found[key] = torch.from_numpy(padded.astype(np.float32))
        return found


def sliced_windows(dataset: Path, workers: int) -> Numbers:
    """The same as Diffusion Policy samples."""
    return {"samples_per_second": rate(loader(Sequences(dataset), workers), 10.0)}


class Counted(MemoryFileSystem):
    """A bucket in memory that counts what is asked of it."""

    requests, size = 0, 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """A request."""
        found = bytes(super().cat_file(path, start, end, **options))
        Counted.requests, Counted.size = Counted.requests + 1, Counted.size + len(found)
        return found


def from_a_bucket(store: Path, key: str, frames: int = 16, times: int = 50) -> Numbers:
    """Requests, bytes and milliseconds of a random window of ``frames`` of one array that lies in an object store."""
    segment, bucket = listed_segments(store)[0], Counted()
    for file in (path for path in (store / segment).rglob("*") if path.is_file()):
        bucket.pipe_file(f"/bench/{file.relative_to(store / segment)}", file.read_bytes())
    remote = FsspecStore(AsyncFileSystemWrapper(bucket, asynchronous=True), path="/bench")
    array: Any = zarr.open_array(remote, path=key, mode="r", zarr_format=3)
    chance, begun = np.random.default_rng(0), time.perf_counter()
    Counted.requests = Counted.size = 0
    for start in chance.integers(array.shape[0] - frames, size=times):
        array[start : start + frames]
    spent = time.perf_counter() - begun
    return {
        "requests": Counted.requests / times, "kib": Counted.size / times / 1024, "ms": 1e3 * spent / times,
        "asked_kib": frames * array[0].nbytes / 1024,
    }  # fmt: skip


def _alone(work: Callable[..., Numbers], pipe: Any) -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(2)
    found = work()
    isolation.close()
    peaks = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    pipe.send({**found, "peak_mib": round(peaks[0]), "readers_peak_mib": round(peaks[1])})


def alone(work: Callable[..., Numbers], *arguments: Any) -> Numbers:
    """What ``work`` measures in a process of its own, and that process's largest memory."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_alone, args=(partial(work, *arguments), there))
    process.start()
    there.close()
    try:
        return dict(here.recv())
    finally:
        process.join()


def measure(folder: Path, episodes: int) -> Numbers:
    """All numbers; ``episodes`` of the large set."""
    sizes = {"state": ((1000, episodes), False), "image": ((50, 200), True)}
    found: Numbers = {"ingest": {}, "convert": {}, "windows": {}, "bucket": {}}
    for kind, (counts, images) in sizes.items():
        for count in counts:
            path, store = recording(folder, count, images), folder / f"{kind}{count}"
            name = f"{kind}, {count} episodes"
            runs = [
                (alone(copied, path, folder / "copy"), alone(taken, path, folder / f"again{i}{store.name}"))
                for i in range(3)
            ]
            floor, ours = (sorted(part, key=lambda one: one["seconds"])[1] for part in zip(*runs, strict=True))
            alone(taken, path, store)
            found["ingest"][name] = {
                **ours, "floor_seconds": floor["seconds"], "ratio": ours["seconds"] / floor["seconds"],
                "mb": floor["bytes"] / 1e6, "mb_per_second": floor["bytes"] / 1e6 / ours["seconds"],
            }  # fmt: skip
            path.unlink()
    small = folder / f"state{sizes['state'][0][0]}"
    theirs = alone(converted, small, folder / "theirs", 300, True)
    ours = alone(converted, small, folder / "ours", 300)
    found["convert"]["state, 300 episodes"] = {**ours, "lerobot_ms": theirs["ms_per_episode"]}
    found["convert"]["state, 300 episodes"]["ratio"] = theirs["ms_per_episode"] / ours["ms_per_episode"]
    large, seen = folder / f"state{episodes}", folder / "image50"
    found["convert"][f"state, {episodes} episodes"] = alone(converted, large, folder / "large", episodes)
    found["convert"]["image, 50 episodes"] = alone(converted, seen, folder / "seen", 50)
    for name, dataset in (("state", folder / "ours"), ("image", folder / "seen")):
        rows = {"ours": alone(windows, dataset)}
        rows |= {f"LeRobot, {n} workers": alone(lerobots_windows, dataset, n) for n in (0, 2)}
        rows |= {f"sliced one by one, {n} workers": alone(sliced_windows, dataset, n) for n in (0, 2)}
        found["windows"][name] = rows
    found["windows"][f"state, {episodes} episodes"] = {"ours": alone(windows, folder / "large")}
    os.chdir(folder)  # unpacked images lie in .work
    found["windows"]["image"]["ours, images on the disk"] = alone(windows, folder / "seen", 0.0)
    for kind, key in (("state1000", "obs/object"), ("image50", "obs/agentview_image")):
        found["bucket"][key] = alone(from_a_bucket, folder / kind, key)
    return found


def show(found: Numbers) -> None:
    """Tables."""
    for part, rows in found.items():
        flat = rows if part != "windows" else {f"{a}: {b}": row for a, by in rows.items() for b, row in by.items()}
        names = list(dict.fromkeys(name for row in flat.values() for name in row))
        table = Table(part, *names, header_style="bold")
        for name, row in flat.items():
            table.add_row(name, *(f"{row[key]:.4g}" if key in row else "" for key in names))
        Console(width=180).print(table)


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=10_000, help="of the large synthetic set")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.episodes)
    show(found)
    path = write("demos", ("zarr", "h5py", "lerobot", "torch", "numcodecs"), found)
    Console().print(f"{path} in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
