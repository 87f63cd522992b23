"""Episodes in robomimic's HDF5 layout: ``data/demo_k`` holds actions, states, rewards, dones, ``obs/<key>``.

Frame ``t`` holds the observation and the state before action ``t``, and the reward after it. An episode ends
with its first success, so the last frame has reward 1 and done 1.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from postbc.sims.task import Array, Operator, TaskEnv
from postbc.storage.atomic import atomic_write
from postbc.storage.robomimic import Demo, write_robomimic


@dataclass
class Episode:
    """One recorded attempt of ``T`` control steps."""

    operator: str
    seed: int  # of the initial state
    success: bool = False
    obs: list[dict[str, Array]] = field(default_factory=list)  # by key, float32
    states: list[Array] = field(default_factory=list)  # the simulator's, float64
    actions: list[Array] = field(default_factory=list)  # (A,) float32
    rewards: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        """T."""
        return len(self.actions)

    def arrays(self) -> dict[str, Array]:
        """Path below ``demo_k`` → array (T, …)."""
        dones = np.zeros(len(self), np.int64)
        dones[-1] = 1
        flat = {"actions": np.stack(self.actions), "states": np.stack(self.states), "dones": dones}
        obs = {f"obs/{key}": np.stack([frame[key] for frame in self.obs]) for key in sorted(self.obs[0])}
        return {**flat, "rewards": np.asarray(self.rewards, np.float32), **obs}


def play(env: TaskEnv, operator: Operator, episode: Episode, max_steps: int) -> Episode:
    """Let ``operator`` act from the episode's initial state until success or ``max_steps``; record it."""
    env.reset(seed=episode.seed)
    for _ in range(max_steps):
        record = env.record()
        action = np.asarray(operator.act(record), np.float32)
        episode.obs.append(record)
        episode.states.append(env.simulator_state())
        episode.actions.append(action)
        _, reward, episode.success, _, _ = env.step(action)
        episode.rewards.append(float(reward))
        if episode.success:
            break
    return episode


def write_hdf5(path: Path, episodes: Sequence[Episode], env_args: Mapping[str, Any]) -> None:
    """Replace ``path`` by a file of these episodes; ``env_args`` is robomimic's description of the environment, JSON-able."""
    facts = ({"operator": e.operator, "seed": e.seed, "success": e.success} for e in episodes)
    demos = (Demo(episode.arrays(), own) for episode, own in zip(episodes, facts, strict=True))
    write_robomimic(path, demos, {"env_args": json.dumps(env_args, sort_keys=True)})


def is_collection(path: Path) -> bool:
    """Whether ``path`` holds nothing but what :func:`write_hdf5` wrote, which can be made again."""
    try:
        with h5py.File(path, "r") as file:
            return all(file["data"][name].attrs.keys() >= {"operator", "seed", "success"} for name in file["data"])
    except (OSError, KeyError, AttributeError):
        return False


def write_part(path: Path, episode: Episode) -> None:
    """One episode as npz, for :func:`read_part`; whole or not at all."""
    buffer = io.BytesIO()
    facts = {"operator": episode.operator, "seed": episode.seed, "success": episode.success}
    arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts)), **episode.arrays()}
    np.savez(buffer, **arrays)
    atomic_write(path, buffer.getvalue())


def read_part(path: Path) -> Episode:
    """What :func:`write_part` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays["facts"]))
        obs = {key.removeprefix("obs/"): arrays[key] for key in arrays if key.startswith("obs/")}
        length = len(arrays["actions"])
        return Episode(
            **facts,
            obs=[{key: values[t] for key, values in obs.items()} for t in range(length)],
            states=list(arrays["states"]),
            actions=list(arrays["actions"]),
            rewards=arrays["rewards"].tolist(),
        )
