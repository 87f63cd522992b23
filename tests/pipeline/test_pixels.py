"""PushT from a camera, from a recording without images to a finetuned policy on the simulator."""

import numpy as np
import pytest
import torch
import zarr
from recordings import at

from postbc.config import Config, FinetuneConfig, IngestConfig, Method, PretrainConfig, TaskConfig
from postbc.demos.convert import View, convert
from postbc.demos.frames import load_frames
from postbc.demos.ingest import ingest
from postbc.demos.preparation import Drawing, Preparation
from postbc.demos.readers import find_sources
from postbc.demos.store import episode_count, read_store
from postbc.errors import DataError
from postbc.evaluation.rollouts import evaluate
from postbc.finetune.artifact import save_finetuned
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.dsrl import Dsrl
from postbc.policies.folder import load_policy, save_policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.targets import Targets
from postbc.sims import get_task
from postbc.sims.vector import ChunkEnvs
from postbc.storage.checkpoint import Checkpoints
from stages import ingest as stage

TASK = TaskConfig(name="pusht_pixels", env="pusht_pixels", fps=10, max_steps=12, chunk=4, history=2)
EPISODES, STEPS = 3, 10


@pytest.fixture(scope="module")
def played():
    """Episodes of random pushing: what was recorded, and what the camera saw."""
    env, random, episodes = get_task("pusht_pixels").make(), np.random.default_rng(0), []
    for seed in range(EPISODES):
        observation, _ = env.reset(seed=seed)
        rows = []
        for _ in range(STEPS):
            action = random.uniform(100, 400, 2).astype(np.float32)
            rows.append((env.record()["state"], observation["pixels"], action))
            observation, *_ = env.step(action)
        episodes.append([np.stack(part) for part in zip(*rows, strict=True)])
    return episodes


def write(path, episodes, **extra):
    """A replay buffer of Diffusion Policy."""
    state, _, action = (np.concatenate(part) for part in zip(*episodes, strict=True))
    group = zarr.create_group(path, zarr_format=2)
    for name, values in {"data/state": state, "data/action": action, **extra}.items():
        group.create_array(name, data=values)
    ends = np.cumsum([len(e[0]) for e in episodes]).astype(np.int64)
    group.create_array("meta/episode_ends", data=ends, chunks=ends.shape)
    return path


def taken_in(recording, folder):
    task = get_task("pusht_pixels")
    assert task.draw
    ingest(find_sources(recording), folder, at(10), None, Preparation(drawing=Drawing("img", task.draw)))
    return list(read_store(folder))


def test_images_are_drawn_as_the_camera_would_have_seen_them(played, tmp_path):
    for stored, (_, pixels, _) in zip(taken_in(write(tmp_path / "r", played), tmp_path / "s"), played, strict=True):
        assert stored.obs["img"].dtype == np.uint8
        different = (stored.obs["img"] != pixels).any(-1).mean()
        assert different < 0.01  # a rim that fell to the other side of a rounding


def test_recorded_images_are_kept_and_checked(played, tmp_path):
    images = np.random.default_rng(0).integers(256, size=(EPISODES * STEPS, 96, 96, 3)).astype(np.float32)
    stored = taken_in(write(tmp_path / "r", played, **{"data/img": images}), tmp_path / "s")
    assert np.array_equal(np.concatenate([e.obs["img"] for e in stored]), images)
    images[3, 2, 1] = 0.5
    with pytest.raises(DataError, match="0 to 255"):
        taken_in(write(tmp_path / "bad", played, **{"data/img": images}), tmp_path / "t")


def test_images_of_another_size_than_the_simulators_are_refused_before_anything_is_learned(
    played, tmp_path, monkeypatch
):
    images = np.full((EPISODES * STEPS, 96, 96, 3), 7, np.uint8)
    write(tmp_path / "data" / "pusht_pixels" / "r.zarr", played, **{"data/img": images})
    monkeypatch.chdir(tmp_path)
    source = str(tmp_path / "data" / "pusht_pixels")
    whole, small = (Config(task=TASK, ingest=IngestConfig(source, image_size=size)) for size in (None, [48, 48]))
    stage.main(whole, None)
    with pytest.raises(DataError, match=r"img is 48 x 48 pixels of 3, pusht_pixels shows 96 x 96 of 3: .*\[96, 96\]"):
        stage.main(small, None)


def test_from_recordings_to_a_finetuned_policy(played, tmp_path):
    episodes = taken_in(write(tmp_path / "r", played), tmp_path / "s")
    task = get_task("pusht_pixels")
    convert(episodes, episode_count(tmp_path / "s"), tmp_path / "d", View(10, "Push.", task.observe, task.images))
    frames = load_frames(tmp_path / "d", TASK.history)
    assert frames.pixels is not None
    assert np.array_equal(
        frames.pixels[torch.arange(len(frames))].permute(0, 2, 3, 1), np.concatenate([e.obs["img"] for e in episodes])
    )
    config = PretrainConfig(hidden=32, layers=1, denoising_steps=10, inference_steps=2, steps=20, batch=8)
    policy, _ = pretrain(Targets(frames, TASK.chunk, Method.BC), config, 0, Checkpoints(tmp_path / "c", "x"))
    save_policy(policy, tmp_path / "p")
    policy = load_policy(tmp_path / "p")
    vector = ChunkEnvs.of(TASK).vector(2, 0.99)
    assert vector.obs_dim == frames.shape.row
    outcomes = evaluate(policy, vector, [5, 6, 7], "x")
    assert [outcome.steps for outcome in outcomes] == [12, 12, 12]
    settings = FinetuneConfig(
        env_steps=80, initial_steps=30, batch=8, hidden=16, layers=1, updates_per_chunk=1, evaluate_every=0
    )
    learner = Dsrl(policy.model, settings, 0)
    finetune(learner, Arena(vector, list(range(100)), Checkpoints(tmp_path / "f", "x")))
    vector.close()
    assert learner.replay.state()["obs"].shape[1] == policy.model.observer.features  # of images, features are kept
    save_finetuned(learner, 80, tmp_path / "finetuned")
    rows = frames.rows(torch.arange(4))
    opened = load_policy(tmp_path / "finetuned" / "policy")
    assert torch.equal(opened.act(rows), learner.policy().act(rows))
