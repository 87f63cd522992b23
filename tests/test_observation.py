"""One row, however it comes about: from a running episode, from stored frames, from images."""

import numpy as np
import pytest
import torch
from toy import dot_frames

from postbc.config import Method, PosteriorConfig, PretrainConfig
from postbc.demos.frames import stack_frames
from postbc.observation import History, ObsShape
from postbc.observer import SHIFT, Observer, shifted
from postbc.policies.pretrain import pretrain
from postbc.posterior.factors import Factors
from postbc.posterior.models import fit_posterior, load_model, save_model
from postbc.posterior.targets import Targets
from postbc.storage.checkpoint import Checkpoints
from postbc.storage.manifest import write_manifest


@pytest.mark.parametrize("history", [1, 2, 4])
def test_stored_frames_make_the_rows_that_a_running_episode_made(history):
    random, rows, episodes = np.random.default_rng(0), [], []
    for length in (1, 3, 7):
        state, environment = random.random((length, 2), np.float32), random.random((length, 3), np.float32)
        running = History(history)
        for t in range(length):
            seen = {"agent_pos": state[t], "environment_state": environment[t]}
            rows.append(running.begin(seen) if t == 0 else (running.add(seen), running.row())[1])
        episodes.append((state, environment, np.zeros((length, 1), np.float32), None))
    frames = stack_frames(episodes, 10, history)
    assert torch.equal(frames.rows(torch.arange(11)), torch.from_numpy(np.stack(rows)))
    assert frames.shape == ObsShape(2, 3, history=history)
    assert frames.shape.row == rows[0].size


@pytest.mark.parametrize("history", [1, 3])
def test_so_they_do_with_images(history):
    frames = dot_frames(2, 5, history)
    for episode in range(2):
        running = History(history)
        for t in range(5):
            at = 5 * episode + t
            image = frames.pixels[at].permute(1, 2, 0).numpy()
            nothing = {"agent_pos": np.zeros(2, np.float32), "environment_state": np.zeros(0, np.float32)}
            seen = {**nothing, "pixels": image}
            row = running.begin(seen) if t == 0 else (running.add(seen), running.row())[1]
            assert np.array_equal(frames.rows(torch.tensor([at]))[0].numpy(), row)
    assert torch.equal(torch.cat(list(frames.parts())), frames.rows(torch.arange(10)))


def test_a_shift_moves_images_by_a_few_pixels_and_nothing_else():
    frames = dot_frames(4, 5, 2)
    rows = frames.rows(torch.arange(20))
    moved = shifted(rows, frames.shape, torch.Generator().manual_seed(0))
    assert torch.equal(moved[:, :4], rows[:, :4])
    before, after = (part[:, 4:].unflatten(1, frames.shape.images) for part in (rows, moved))
    offsets = set()
    for one, other in zip(before, after, strict=True):
        at, to = (torch.nonzero(image[0] == 255).float().mean(0) for image in (one, other))
        if torch.isfinite(to).all() and (at > SHIFT + 2).all() and (at < 32 - SHIFT - 2).all():
            offsets.add(tuple((to - at).round().int().tolist()))
            assert ((to - at).abs() <= SHIFT).all()
    assert len(offsets) > 3
    assert torch.equal(shifted(rows[:, :4], ObsShape(2, 0, history=2), torch.Generator()), rows[:, :4])


def test_an_encoder_sees_where_things_are(tmp_path):
    """The action is the dot's place in the image; nothing else says so."""
    frames = dot_frames(60, 4)
    config = PretrainConfig(hidden=64, layers=2, denoising_steps=20, inference_steps=4, steps=400, batch=64, ema=0.9)
    policy, _ = pretrain(Targets(frames, 1, Method.BC), config, 0, Checkpoints(tmp_path / "c", "x"))
    unseen = dot_frames(20, 4, seed=1)
    drawn = policy.act(unseen.rows(torch.arange(80)), torch.zeros(80, policy.latent_dim))[:, 0]
    error = (drawn - unseen.action).square().mean().sqrt()
    assert error < 0.5 * unseen.action.std()


@pytest.mark.parametrize("kind", ["ensemble", "last_layer"])
def test_a_posterior_reads_images_through_one_encoder(tmp_path, kind):
    frames = dot_frames(12, 4)
    config = PosteriorConfig(kind=kind, members=5, hidden=16, layers=2, steps=510, batch=16)  # checkpoints are written
    model, _ = fit_posterior(frames, 2, config, 0, Checkpoints(tmp_path / "c", "x"))
    factors = Factors.of(model, frames, 2)
    assert factors.centred.shape == (48, 5, 4)
    assert factors.std().mean() > 0
    error = (model.predict_frames(frames).mean(1) - frames.all_chunks(2)).square().mean().sqrt()
    assert error < frames.action.std()
    folder = tmp_path / "m"
    folder.mkdir()
    save_model(model, folder)
    write_manifest(folder)
    rows = frames.rows(torch.arange(6))
    assert torch.equal(load_model(folder).predict(rows), model.predict(rows))


def test_without_images_an_observer_only_normalises():
    observer = Observer(ObsShape(2, 3, history=2))
    assert observer.features == 10
    assert list(observer.state_dict()) == ["normalizer.centre", "normalizer.scale"]
