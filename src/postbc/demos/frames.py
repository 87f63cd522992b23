"""The frames of a LeRobotDataset in memory, and windows of observations and actions gathered from them.

Their numbers fit in memory, and gathering windows there is hundreds of times faster than a loader that opens one frame at
a time; of camera images as many as a limit says (:mod:`postbc.demos.pixels`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from postbc.demos.pixels import Pixels, load_pixels
from postbc.errors import DataError
from postbc.features import Features
from postbc.observation import ObsShape
from postbc.storage.atomic import read_json
from postbc.storage.manifest import check_manifest, fingerprint

STATE, ENVIRONMENT, IMAGE = "observation.state", "observation.environment_state", "observation.image"
REWARD, SUCCESS = "next.reward", "next.success"
SIDE, FEATURES = "postbc.json", "features"  # beside LeRobot's files, and what in it names the numbers
NEEDED = {STATE, "action", "episode_index", "index"}
PART = 4096  # frames predicted at once
IMAGE_PART = 256  # likewise where there are images


@dataclass(frozen=True)
class Frames:
    """N frames in the order of the data set's global index.

    ``episode[i]`` is the number of the episode of frame i, ``last[i]`` the index of that episode's last frame.
    """

    obs: Float[Tensor, "N V"]  # low-dimensional part of every frame's row (postbc.observation)
    action: Float[Tensor, "N A"]
    episode: Int64[Tensor, "N"]
    last: Int64[Tensor, "N"]
    shape: ObsShape
    fps: int
    fingerprint: str  # of the data set
    pixels: Pixels | None = None
    reward: Float[Tensor, "N"] | None = None  # of the action of each frame, where it was recorded
    success: Bool[Tensor, "N"] | None = None
    features: Features | None = None  # names and units of what is seen and done, where they are known

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return int(self.episode[-1]) + 1

    def rows(self, index: Int64[Tensor, "B"]) -> Float[Tensor, "B O"]:
        """What a policy reads at each frame."""
        vector = self.obs[index]
        if self.pixels is None:
            return vector
        past = before(index, self.episode, self.shape.history)
        row = vector.new_empty(len(vector), self.shape.row)
        row[:, : vector.shape[1]] = vector
        row[:, vector.shape[1] :] = self.pixels[past].flatten(1)  # cast as it is copied: half the time of doing both
        return row

    def parts(self) -> Iterator[Float[Tensor, "B O"]]:
        """The rows of all frames, in order, in parts that fit in memory."""
        size = PART if self.pixels is None else IMAGE_PART
        return map(self.rows, torch.arange(len(self), device=self.obs.device).split(size))

    def chunks(self, index: Int64[Tensor, "B"], horizon: int) -> Float[Tensor, "B H A"]:
        """The ``horizon`` actions from each frame on; beyond the episode's end its last action is repeated."""
        return self.action[self.ahead(index, horizon)]

    def ahead(self, index: Int64[Tensor, "B"], horizon: int) -> Int64[Tensor, "B H"]:
        """The frames whose actions make the chunk of each frame."""
        steps = index[:, None] + torch.arange(horizon, device=index.device)
        return torch.minimum(steps, self.last[index][:, None])

    def all_chunks(self, horizon: int) -> Float[Tensor, "N D"]:
        """The chunk from every frame on, flattened: D = ``horizon`` · A."""
        return self.chunks(torch.arange(len(self), device=self.obs.device), horizon).flatten(1)

    def select(self, episodes: Int64[Tensor, "K"]) -> "Frames":
        """The frames of these episodes alone, numbered afresh; not a data set of its own, so without a fingerprint."""
        kept = torch.isin(self.episode, episodes)
        episode = torch.unique(self.episode[kept], return_inverse=True)[1]
        last = torch.searchsorted(episode, episode, right=True) - 1
        parts = {"obs": self.obs[kept], "action": self.action[kept], "episode": episode, "last": last}
        pixels = None if self.pixels is None else self.pixels.select(kept)
        return replace(self, **parts, fingerprint="", pixels=pixels, reward=None, success=None)

    def to(self, device: torch.device) -> "Frames":
        """The same frames on ``device``."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: part.to(device) for name, part in parts.items() if isinstance(part, Tensor | Pixels)
        }
        return replace(self, **moved)


def before(index: Int64[Tensor, "B"], episode: Int64[Tensor, "N"], history: int) -> Int64[Tensor, "B K"]:
    """Each frame of ``index`` and the ``history`` - 1 before it, oldest first; an episode's first frame is repeated."""
    steps = index[:, None] + torch.arange(1 - history, 1, device=index.device)
    return torch.maximum(steps, torch.searchsorted(episode, episode[index])[:, None])


def _with_history(obs: Float[Tensor, "N V"], episode: Int64[Tensor, "N"], history: int) -> Float[Tensor, "N V"]:
    return obs[before(torch.arange(len(obs)), episode, history)].flatten(1)


Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


def stack_frames(episodes: Iterable[Parts], fps: int, history: int = 1) -> Frames:
    """Frames of (state (T, S), environment (T, V), action (T, A), images (T, h, w, C) or None); of no data set on disk."""
    state, environment, action, images = (list(part) for part in zip(*episodes, strict=True))
    seen = [part for part in images if part is not None]
    pixels = Pixels.of(torch.from_numpy(np.concatenate(seen)).permute(0, 3, 1, 2)) if seen else None
    lengths = torch.tensor([len(part) for part in action])
    number = torch.repeat_interleave(torch.arange(len(action)), lengths)
    obs = np.hstack([np.concatenate(state), np.concatenate(environment)]).astype(np.float32)
    return Frames(
        obs=_with_history(torch.from_numpy(obs), number, history),
        action=torch.from_numpy(np.concatenate(action).astype(np.float32)),
        episode=number,
        last=lengths.cumsum(0)[number] - 1,
        shape=ObsShape(state[0].shape[1], environment[0].shape[1], pixels.shape if pixels else None, history),
        fps=fps,
        fingerprint="",
        pixels=pixels,
    )


def load_frames(dataset: Path, history: int = 1, image_memory: float = 4.0) -> Frames:
    """Read a LeRobotDataset v3 at ``dataset``, of which a policy reads the last ``history`` observations.

    Camera images beyond ``image_memory`` GiB are not kept in memory. Raises IntegrityError when the data set differs from its
    manifest, DataError when columns are missing.
    """
    check_manifest(dataset)
    files = sorted((dataset / "data").rglob("*.parquet"))
    table, info = _table(dataset, files), read_json(dataset / "meta" / "info.json")
    if info["features"].get(IMAGE, {}).get("dtype") == "video":
        raise DataError(
            f"{dataset} holds its images as video, which loses a little; policies are trained on those of `convert`."
        )
    state, action = _matrix(table[STATE]), _matrix(table["action"])
    environment = _matrix(table[ENVIRONMENT]) if ENVIRONMENT in table.column_names else state[:, :0]
    made, shown = fingerprint(dataset), IMAGE in info["features"]
    pixels = load_pixels(files, IMAGE, made, image_memory * 2**30) if shown else None
    episode = torch.from_numpy(np.asarray(table["episode_index"].to_pylist()))
    return Frames(
        obs=_with_history(torch.cat([state, environment], dim=1), episode, history),
        action=action,
        episode=episode,
        last=torch.searchsorted(episode, episode, right=True) - 1,
        shape=ObsShape(state.shape[1], environment.shape[1], pixels.shape if pixels else None, history),
        fps=int(info["fps"]),
        fingerprint=made,
        pixels=pixels,
        reward=_scalars(table[REWARD]) if REWARD in table.column_names else None,
        success=_scalars(table[SUCCESS]) > 0 if SUCCESS in table.column_names else None,
        features=_named(dataset / SIDE),
    )


def _named(side: Path) -> Features | None:
    found = read_json(side).get(FEATURES) if side.exists() else None
    return None if found is None else Features.of(found)


def _table(dataset: Path, files: list[Path]) -> Any:
    """The numbers of the data set's frames, in order."""
    try:
        columns = set(pq.read_schema(files[0]).names)
        missing = NEEDED - columns
        if missing:
            raise DataError(f"{dataset} has no column {', '.join(sorted(missing))}.")
        wanted = sorted(NEEDED | ({ENVIRONMENT, REWARD, SUCCESS} & columns))
        table = pa.concat_tables(pq.read_table(file, columns=wanted) for file in files)
    except (IndexError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{dataset}: not a LeRobotDataset with frames in parquet files ({error}).") from error
    if not np.array_equal(table["index"], np.arange(len(table))):
        raise DataError(f"{dataset}: frames are not in order.")
    return table


def _scalars(column: Any) -> Tensor:
    return torch.from_numpy(np.asarray(column.to_pylist(), np.float32).reshape(-1))


def _matrix(column: Any) -> Tensor:
    values = column.combine_chunks()
    nested = pa.types.is_nested(values.type)  # LeRobot writes what is one number wide as a plain column
    flat = (values.flatten() if nested else values).to_numpy(zero_copy_only=False)
    return torch.from_numpy(flat.reshape(len(values), -1).astype(np.float32))
