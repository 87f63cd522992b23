"""The frames of a LeRobotDataset in memory, and windows of actions gathered from them.

Low-dimensional data fits in memory, and gathering windows there is hundreds of times faster than a loader that opens one
frame at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from postbc.errors import DataError
from postbc.storage.atomic import read_json
from postbc.storage.manifest import check_manifest, fingerprint

COLUMNS = ["observation.state", "observation.environment_state", "action", "episode_index", "index"]


@dataclass(frozen=True)
class Frames:
    """N frames in the order of the data set's global index.

    ``episode[i]`` is the number of the episode of frame i, ``last[i]`` the index of that episode's last frame.
    """

    obs: Float[Tensor, "N O"]  # state and environment state side by side
    action: Float[Tensor, "N A"]
    episode: Int64[Tensor, "N"]
    last: Int64[Tensor, "N"]
    state_dim: int  # the first columns of obs are the robot's own state
    fps: int
    fingerprint: str  # of the data set

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return int(self.episode[-1]) + 1

    def chunks(self, index: Int64[Tensor, "B"], horizon: int) -> Float[Tensor, "B H A"]:
        """The ``horizon`` actions from each frame on; beyond the episode's end its last action is repeated."""
        steps = index[:, None] + torch.arange(horizon, device=index.device)
        return self.action[torch.minimum(steps, self.last[index][:, None])]

    def all_chunks(self, horizon: int) -> Float[Tensor, "N D"]:
        """The chunk from every frame on, flattened: D = ``horizon`` · A."""
        return self.chunks(torch.arange(len(self), device=self.obs.device), horizon).flatten(1)

    def select(self, episodes: Int64[Tensor, "K"]) -> "Frames":
        """The frames of these episodes alone, numbered afresh; not a data set of its own, so without a fingerprint."""
        kept = torch.isin(self.episode, episodes)
        episode = torch.unique(self.episode[kept], return_inverse=True)[1]
        last = torch.searchsorted(episode, episode, right=True) - 1
        parts = {"obs": self.obs[kept], "action": self.action[kept], "episode": episode, "last": last}
        return replace(self, **parts, fingerprint="")

    def to(self, device: torch.device) -> "Frames":
        """The same frames on ``device``."""
        moved = {name: getattr(self, name).to(device) for name in ("obs", "action", "episode", "last")}
        return replace(self, **moved)


def stack_frames(episodes: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], fps: int) -> Frames:
    """Frames from (state (T, S), environment (T, V), action (T, A)) of each episode; of no data set on disk."""
    state, environment, action = (list(part) for part in zip(*episodes, strict=True))
    lengths = torch.tensor([len(part) for part in action])
    number = torch.repeat_interleave(torch.arange(len(action)), lengths)
    obs = np.hstack([np.concatenate(state), np.concatenate(environment)]).astype(np.float32)
    return Frames(
        obs=torch.from_numpy(obs),
        action=torch.from_numpy(np.concatenate(action).astype(np.float32)),
        episode=number,
        last=lengths.cumsum(0)[number] - 1,
        state_dim=state[0].shape[1],
        fps=fps,
        fingerprint="",
    )


def load_frames(dataset: Path) -> Frames:
    """Read the low-dimensional columns of a LeRobotDataset v3 at ``dataset``.

    Raises IntegrityError when it differs from its manifest, DataError when columns are missing.
    """
    check_manifest(dataset)
    files = sorted((dataset / "data").rglob("*.parquet"))
    try:
        table = pq.read_table(files, columns=COLUMNS) if len(files) > 1 else pq.read_table(files[0], columns=COLUMNS)
    except (IndexError, KeyError, ValueError, OSError) as error:
        raise DataError(f"{dataset}: not a low-dimensional LeRobotDataset ({error}).") from error
    table = table.sort_by("index")
    column = {name: np.asarray(table[name].to_pylist()) for name in COLUMNS[3:]}
    state, environment, action = (_matrix(table[name]) for name in COLUMNS[:3])
    episode = torch.from_numpy(column["episode_index"])
    last = torch.searchsorted(episode, episode, right=True) - 1
    return Frames(
        obs=torch.cat([state, environment], dim=1),
        action=action,
        episode=episode,
        last=last,
        state_dim=state.shape[1],
        fps=int(read_json(dataset / "meta" / "info.json")["fps"]),
        fingerprint=fingerprint(dataset),
    )


def _matrix(column: object) -> Tensor:
    values = column.combine_chunks()  # type: ignore[attr-defined]
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return torch.from_numpy(flat.reshape(len(values), -1).astype(np.float32))
