"""Keys and images as a task wants them, and refusals before much is read."""

from dataclasses import replace

import numpy as np
import pytest
from recordings import at, write_npz
from toy import toy_episode

from postbc.config import IngestConfig
from postbc.demos.ingest import ingest
from postbc.demos.preparation import Drawing, Preparation
from postbc.demos.readers import find_sources
from postbc.demos.store import listed_segments, read_store
from postbc.errors import ConfigError, DataError
from postbc.sims.task import columns


def seen(number, side=48, channels=3):
    images = np.random.default_rng(number).integers(256, size=(12, side, side, channels), dtype=np.uint8)
    episode = toy_episode(number)
    return replace(episode, obs={**episode.obs, "cam": images})


def taken(tmp_path, episodes, prepare):
    if not (tmp_path / "data").exists():
        write_npz(tmp_path / "data", episodes)
    ingest(find_sources(tmp_path / "data"), tmp_path / "store", at(10), None, prepare)
    return list(read_store(tmp_path / "store"))


def test_keys_are_named_left_out_and_kept(tmp_path):
    episodes = [seen(n) for n in range(2)]
    for stored, recorded in zip(
        taken(tmp_path, episodes, Preparation({"position": "pos", "cam": None})), episodes, strict=True
    ):
        assert stored.obs.keys() == {"pos", "goal"}
        assert np.array_equal(stored.obs["pos"], recorded.obs["position"])


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_scaled_to_the_means_of_what_they_cover(tmp_path, channels):
    episodes = [seen(n, channels=channels) for n in range(2)]
    for stored, recorded in zip(taken(tmp_path, episodes, Preparation(image_size=(24, 16))), episodes, strict=True):
        blocks = recorded.obs["cam"].reshape(12, 24, 2, 16, 3, channels).mean((2, 4))
        assert stored.obs["cam"].dtype == np.uint8
        assert np.abs(stored.obs["cam"] - blocks).max() <= 1  # Pillow rounds after each direction


def test_other_settings_are_other_segments_and_the_same_are_kept(tmp_path):
    episodes, names = [seen(0)], []
    kinds = (
        Preparation(), Preparation({"cam": "image"}), Preparation(image_size=(8, 8)),
        Preparation(drawing=Drawing("img", lambda obs: obs["cam"])), Preparation(),
    )  # fmt: skip
    for prepare in kinds:
        taken(tmp_path, episodes, prepare)
        names += listed_segments(tmp_path / "store")
    assert names[0] == names[-1]
    assert len(set(names)) == 4


def test_what_does_not_fit_is_refused_at_the_first_episode(tmp_path):
    episodes = [seen(0)]
    for prepare, words in (
        (Preparation({"wrist": "cam"}), "names wrist; the recording has cam, goal, position"),
        (Preparation({"position": "goal"}), "would be called goal"),
        (Preparation(fit=lambda obs, _: columns(obs, ("speed",), "toy")), "missing speed.*ingest.keys"),
    ):
        with pytest.raises(DataError, match=words):
            taken(tmp_path, episodes, prepare)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"keys": {"a": "../b"}}, {"keys": {"a": "x", "b": "x"}}, {"keys": {"a": 3}}, {"keys": {"a": ""}},
        {"image_size": [8]}, {"image_size": [8, 0]},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        IngestConfig(source="data", **settings)


def test_channels_are_scaled_each_by_itself(tmp_path):
    episode = seen(0, side=16, channels=4)
    episode.obs["cam"][..., 3] = 0  # a depth of zero takes no colour away
    (stored,) = taken(tmp_path, [episode], Preparation(image_size=(8, 8)))
    blocks = episode.obs["cam"].reshape(12, 8, 2, 8, 2, 4).mean((2, 4))
    assert np.abs(stored.obs["cam"] - blocks).max() <= 1


@pytest.mark.parametrize("images", [np.zeros((12, 3, 8, 8), np.uint8), np.zeros((12, 8, 8, 3), np.float32)])
def test_what_can_not_be_scaled_is_named(tmp_path, images):
    episode = replace(toy_episode(0), obs={"cam": images})
    with pytest.raises(DataError, match="cam is"):
        taken(tmp_path, [episode], Preparation(image_size=(4, 4)))


def test_a_task_that_trips_over_a_shape_says_so(tmp_path):
    with pytest.raises(DataError, match=r"ingest\.keys"):
        taken(tmp_path, [toy_episode(0)], Preparation(fit=lambda obs, _: obs["goal"][:, 5]))


def test_arrays_that_the_key_map_does_not_name_are_left_alone(tmp_path):
    write_npz(tmp_path / "data", [toy_episode(0)])
    arrays = dict(np.load(tmp_path / "data" / "000.npz"))
    np.savez(tmp_path / "data" / "000.npz", **arrays, note=np.array(["a word"]))
    assert len(taken(tmp_path, [], Preparation())) == 1
