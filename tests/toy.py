"""Toy demonstrations, in memory."""

from dataclasses import replace

import numpy as np
import torch

from postbc.demos.convert import View
from postbc.demos.episode import Episode
from postbc.demos.frames import Frames, stack_frames

TOY_VIEW = View(10, "Go to the goal.", lambda obs: (obs["position"], obs["goal"]), lambda obs: obs.get("top"))
SIDE = 32  # pixels of an image
IDLE = torch.tensor(-0.7)  # what an action dimension that never varied says


def toy_episode(number: int, length: int = 12) -> Episode:
    """A point that moves to a goal, observed with its goal; every episode has its own speed."""
    random = np.random.default_rng(number)
    goal = random.uniform(-1, 1, 2)
    position = np.linspace(0, 1, length)[:, None] * goal
    action = np.diff(position, axis=0, append=position[-1:]) + 0.01 * random.standard_normal((length, 2))
    success = np.arange(length) == length - 1
    obs = {"position": position.astype(np.float32), "goal": np.tile(goal, (length, 1)).astype(np.float32)}
    return Episode(action.astype(np.float32), obs, success.astype(np.float32), success, {"name": f"demo_{number}"})


def pictured(number: int, length: int = 6, side: int = 64) -> Episode:
    """An episode seen by a camera: a bright square that moves over a smooth background."""
    episode = toy_episode(number, length)
    ramp = np.linspace(0, 120, side, dtype=np.uint8)
    images = np.tile(ramp[None, :, None, None], (length, 1, side, 3))
    for t in range(length):
        images[t, 8 : 8 + 16, 6 * t + 3 * number : 6 * t + 3 * number + 16] = 220
    return replace(episode, obs={**episode.obs, "top": images})


def make_frames(episodes: list[Episode]) -> Frames:
    """Frames without a data set on disk."""
    parts = [(e.obs["position"], e.obs["goal"], e.action, None) for e in episodes]
    return replace(stack_frames(parts, 10), fingerprint="toy")


def with_idle_dimension(frames: Frames) -> Frames:
    """``frames`` with one more action dimension, which always says IDLE."""
    return replace(frames, action=torch.cat([frames.action, IDLE.expand(len(frames), 1)], dim=1))


def dot_frames(episodes: int, length: int, history: int = 1, seed: int = 0) -> Frames:
    """A white dot somewhere in a dark image; the action is where it is, and only the image tells."""
    random = np.random.default_rng(seed)
    at = random.integers(2, SIDE - 2, (episodes * length, 2))
    pixels = np.zeros((len(at), SIDE, SIDE, 3), np.uint8)
    for image, (y, x) in zip(pixels, at, strict=True):
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    action = (2 * at / SIDE - 1).astype(np.float32)
    empty = np.zeros((length, 0), np.float32)
    by_episode = zip(action.reshape(episodes, length, 2), np.split(pixels, episodes), strict=True)
    parts = [(np.zeros((length, 2), np.float32), empty, one, images) for one, images in by_episode]
    return replace(stack_frames(parts, 10, history), fingerprint="dots")
