"""One episode of a policy as an mp4 that any browser plays."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import gymnasium as gym
import h5py
import numpy as np
import torch

from postbc.evaluation.rollouts import LatentStreams
from postbc.observation import History
from postbc.policies.policy import Policy
from postbc.sims.task import TaskEnv

EVERY = 2  # control steps a frame: software rendering takes longer than the simulation


def frames(policy: Policy, env: gym.Env, seed: int, max_steps: int) -> Iterator[np.ndarray]:
    """Play the episode of ``seed`` and yield images (height, width, 3) uint8."""
    observation, _ = env.reset(seed=seed)
    streams, steps, history = LatentStreams(policy.normal_dim), 0, History(policy.model.shape.obs.history)
    row = history.begin(observation)
    yield np.asarray(env.render())
    while steps < max_steps:
        for action in policy.act(torch.from_numpy(row)[None], streams.draw(np.array([seed])))[0].numpy():
            observation, _, terminated, truncated, _ = env.step(action)
            history.add(observation)
            steps += 1
            if steps % EVERY == 0 or terminated:
                yield np.asarray(env.render())
            if terminated or truncated or steps >= max_steps:
                return
        row = history.row()


def replay(env: TaskEnv, seed: int, actions: np.ndarray) -> Iterator[np.ndarray]:
    """Play ``actions`` (T, A) from the initial state of ``seed`` and yield images (height, width, 3) uint8."""
    env.reset(seed=seed)
    yield np.asarray(env.render())
    for step, action in enumerate(actions, 1):
        env.step(action)
        if step % EVERY == 0 or step == len(actions):
            yield np.asarray(env.render())


def encode(images: Iterator[np.ndarray], fps: float, path: Path) -> None:
    """Write H.264 in an mp4 whose index comes first; the same images give the same bytes."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart", "fflags": "+bitexact"}) as container:
        stream = None
        for image in images:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                # Colours have half of the resolution, so that sizes are even.
                stream.height, stream.width, stream.pix_fmt = (
                    image.shape[0] // 2 * 2,
                    image.shape[1] // 2 * 2,
                    "yuv420p",
                )
                stream.options = {"crf": "26", "threads": "1"}
            even = np.ascontiguousarray(image[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def film_demonstrations(env: TaskEnv, recording: Path, number: int, folder: Path) -> list[Path]:
    """Write the mp4 of one demonstration of each of the first ``number`` operators met in a robomimic file."""
    written: dict[str, Path] = {}
    with h5py.File(recording) as file:
        for name in sorted(file["data"], key=lambda name: int(name.removeprefix("demo_"))):
            demo = file["data"][name]
            who = str(demo.attrs["operator"])
            if who not in written and len(written) < number:
                path = folder / f"{who}.{name}.mp4"
                images = replay(env, int(demo.attrs["seed"]), np.asarray(demo["actions"]))
                encode(images, env.metadata["render_fps"] / EVERY, path)
                written[who] = path
    return list(written.values())


def film(policy: Policy, env: gym.Env, seed: int, max_steps: int, path: Path) -> None:
    """Write the mp4 of one episode, in real time."""
    encode(frames(policy, env, seed, max_steps), env.metadata["render_fps"] / EVERY, path)
