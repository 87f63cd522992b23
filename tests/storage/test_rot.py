"""Whatever lies on a disk may rot: every kind of artifact is refused by a named error after any one change to its files."""

import random
import shutil

import pytest
import torch
from recordings import write_store
from toy import toy_episode

from postbc.config import PosteriorConfig
from postbc.demos.frames import load_frames
from postbc.demos.store import read_store
from postbc.errors import DataError
from postbc.observation import ObsShape
from postbc.policies.folder import build_policy, load_policy, save_policy
from postbc.policies.generative import PolicyShape
from postbc.policies.policy import Latent
from postbc.posterior.artifact import write_posterior
from postbc.posterior.factors import load_factors
from postbc.posterior.models import fit_posterior, load_model
from postbc.storage.checkpoint import Checkpoints

FLIPS, CUTS = 200, 40
POSTERIOR = PosteriorConfig(members=3, hidden=8, layers=1, steps=5)


def store(folder, _):
    write_store(folder, [toy_episode(n) for n in range(4)])
    return lambda: list(read_store(folder))


def lerobot(folder, dataset):
    shutil.copytree(dataset, folder)
    return lambda: load_frames(folder)


def posterior(folder, dataset):
    frames = load_frames(dataset)
    model, _ = fit_posterior(frames, 3, POSTERIOR, 0, Checkpoints(folder.with_name("fit"), "x"))
    write_posterior(model, frames, (3, POSTERIOR), None, folder)
    return lambda: (load_model(folder), load_factors(folder, frames))


def policy(folder, _):
    save_policy(build_policy(PolicyShape(ObsShape(2, 0), 2, 4, 8, 1, 4, 2), Latent.SAMPLE), folder)
    return lambda: load_policy(folder)


def checkpoint(folder, _):
    saved = Checkpoints(folder, "mine")
    saved.save({"weights": torch.randn(50), "step": 3, "rows": [{"loss": 0.5}]})
    return saved.load


KINDS = (store, lerobot, posterior, policy, checkpoint)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def artifact(request, tmp_path, dataset):
    """(folder, how it is opened, its files and their bytes)."""
    opened = request.param(tmp_path / "artifact", dataset)
    assert opened() is not None
    files = sorted(p for p in (tmp_path / "artifact").rglob("*") if p.is_file())
    return opened, {file: file.read_bytes() for file in files}


def refused(opened):
    with pytest.raises(DataError) as error:  # IntegrityError, but for what makes it look like nothing at all
        opened()
    assert "artifact" in str(error.value)


def test_a_flipped_bit_is_refused(artifact):
    opened, files = artifact
    chance = random.Random(0)  # noqa: S311 - damage, no secret
    names = list(files) * (FLIPS // len(files) + 1)
    for file in names[:FLIPS]:  # every file as often
        data = bytearray(files[file])
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        refused(opened)
        file.write_bytes(files[file])
    assert opened() is not None


def test_a_cut_a_lost_or_another_file_is_refused(artifact):
    opened, files = artifact
    chance = random.Random(0)  # noqa: S311 - damage, no secret
    names = list(files) * (CUTS // len(files) + 1)
    for file in names[:CUTS]:
        file.write_bytes(files[file][: chance.randrange(len(files[file]))])
        refused(opened)
        file.unlink()
        refused(opened)
        other = chance.choice([o for o in files if files[o] != files[file]])
        file.write_bytes(files[other])
        other.write_bytes(files[file])
        refused(opened)
        for each in (file, other):
            each.write_bytes(files[each])
    assert opened() is not None
