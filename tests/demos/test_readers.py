"""What each format has of its own; that all of them give back what was recorded is tested with ingest."""

import io
import json
import logging
from dataclasses import replace

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from recordings import (
    FPS,
    TASK,
    WRITERS,
    at,
    write_lerobot,
    write_lerobot_v21,
    write_minari,
    write_npz,
    write_robomimic,
)
from toy import pictured, toy_episode

from postbc.demos import bounds
from postbc.demos.export import export
from postbc.demos.ingest import ingest
from postbc.demos.readers import find_sources, lerobot
from postbc.errors import DataError


def read(path, filter_key=None):
    return [episode for source in find_sources(path, filter_key) for episode in source.episodes()]


def write_lerobot_videos(path, episodes):
    write_lerobot(path, episodes, video=True)


def described_as(recording, feature, **said):
    """Change what a LeRobot data set says of a feature."""
    path = recording / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"][feature] = {**info["features"].get(feature, {}), **said}
    path.write_text(json.dumps(info))


@pytest.mark.parametrize("writer", [write_robomimic, write_npz, write_lerobot])
def test_images_come_back_as_they_were(tmp_path, writer):
    episodes = [pictured(n, 5 + n) for n in range(3)]
    writer(tmp_path / "set.hdf5", episodes)
    for ours, theirs in zip(read(tmp_path / "set.hdf5"), episodes, strict=True):
        assert ours.obs["top"].dtype == np.uint8
        assert np.array_equal(ours.obs["top"], theirs.obs["top"])


@pytest.mark.parametrize("writer", [write_minari, write_lerobot_videos, write_lerobot_v21])
def test_compressed_images_come_back_nearly(tmp_path, writer):
    episodes = [pictured(n, 5 + n) for n in range(3)]
    writer(tmp_path / "set", episodes)
    for ours, theirs in zip(read(tmp_path / "set"), episodes, strict=True):
        away = np.abs(ours.obs["top"].astype(int) - theirs.obs["top"])
        assert ours.obs["top"].shape == theirs.obs["top"].shape
        assert away.mean() < 4  # of 255; neighbouring frames and episodes are 20 and more apart
        assert np.array_equal(ours.action, theirs.action)
        others = [np.abs(ours.obs["top"][0].astype(int) - frame).mean() for frame in theirs.obs["top"][1:]]
        assert min(others) > 2 * away.mean()


def test_a_short_video_is_named(tmp_path):
    write_lerobot_videos(tmp_path / "set", [pictured(0), pictured(1)])
    info = tmp_path / "set" / "meta" / "info.json"
    assert '"fps": 10' in info.read_text()
    video = next((tmp_path / "set" / "videos").rglob("*.mp4"))
    other = tmp_path / "other"
    write_lerobot_videos(other, [pictured(0, 3)])
    video.write_bytes(next((other / "videos").rglob("*.mp4")).read_bytes())
    with pytest.raises(DataError, match=r"episode 0: observation.images.top: the video ends after 3 of 6"):
        read(tmp_path / "set")


def test_a_video_with_dropped_frames_is_not_filled_with_the_next_episodes(tmp_path):
    """As LeRobot's streaming recorder leaves them: every row of the table, and a shorter part of the video."""
    write_lerobot_videos(tmp_path / "set", [pictured(0, 6), pictured(1)])
    write_lerobot_videos(tmp_path / "dropped", [pictured(0, 3), pictured(1)])
    for pattern in ("*.mp4", "episodes/**/*.parquet"):
        (whole,), (short,) = ([*(tmp_path / name).rglob(pattern)] for name in ("set", "dropped"))
        if pattern == "*.mp4":
            whole.write_bytes(short.read_bytes())
            continue
        table, cut = pq.read_table(whole), pq.read_table(short)
        for column in (name for name in table.column_names if name.endswith("_timestamp")):
            table = table.set_column(table.column_names.index(column), column, cut[column])
        pq.write_table(table, whole)
    with pytest.raises(DataError, match=r"episode 0: observation.images.top: the video ends after 3 of 6"):
        read(tmp_path / "set")


def test_videos_of_depth_are_refused(tmp_path):
    write_lerobot_videos(tmp_path / "set", [pictured(0)])
    described_as(tmp_path / "set", "observation.images.top", info={"is_depth_map": True})
    with pytest.raises(DataError, match=r"observation.images.top: videos of depth are not read"):
        read(tmp_path / "set")


def test_columns_that_no_array_holds_are_left_out(tmp_path):
    """LeRobot's language events are lists of structures."""
    write_lerobot(tmp_path / "set", [toy_episode(0)])
    described_as(tmp_path / "set", "language_events", dtype="language", shape=[1], names=None)
    (data,) = (tmp_path / "set" / "data").rglob("*.parquet")
    table = pq.read_table(data)
    pq.write_table(table.append_column("language_events", pa.array([[{"said": "left"}]] * len(table))), data)
    assert np.array_equal(read(tmp_path / "set")[0].action, toy_episode(0).action)


def test_stock_lerobot_converts_what_the_test_calls_version_2_1(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    logging.getLogger("lerobot").setLevel(logging.ERROR)
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    episodes = [toy_episode(n) for n in range(3)]
    write_lerobot_v21(tmp_path / "set", episodes)
    before = read(tmp_path / "set")
    convert_dataset("toy/goal", root=tmp_path / "set", push_to_hub=False)
    assert json.loads((tmp_path / "set" / "meta" / "info.json").read_text())["codebase_version"] == "v3.0"
    for ours, theirs in zip(read(tmp_path / "set"), before, strict=True):
        assert ours.facts == theirs.facts
        assert all(np.array_equal(ours.arrays()[k], v) for k, v in theirs.arrays().items())


@pytest.mark.parametrize("name", ["npz", "lerobot", "lerobot_v21"])
def test_rate_and_instruction_are_facts_and_another_rate_is_refused(tmp_path, name):
    WRITERS[name](tmp_path / name, [toy_episode(0)])
    (episode,) = read(tmp_path / name)
    assert (episode.facts["fps"], episode.facts["task"]) == (FPS, TASK)
    with pytest.raises(DataError, match="recorded at 10 Hz, the task runs at 20 Hz"):
        ingest(find_sources(tmp_path / name), tmp_path / "store", at(20))


def test_a_filter_key_takes_its_subset(tmp_path):
    path, store = tmp_path / "demos.hdf5", tmp_path / "store"
    write_robomimic(path, [toy_episode(n) for n in range(4)])
    with h5py.File(path, "a") as file:
        file["mask/train"] = np.array([b"demo_3", b"demo_1"])
    assert [e.facts["name"] for e in read(path, "train")] == ["demo_1", "demo_3"]
    assert ingest(find_sources(path), store, at(10))["episodes"] == 4
    assert ingest(find_sources(path, "train"), store, at(10))["episodes"] == 2
    with pytest.raises(DataError, match="no filter key 'valid', found train"):
        read(path, "valid")
    write_npz(tmp_path / "npz", [toy_episode(0)])
    with pytest.raises(DataError, match="only robomimic's"):
        read(tmp_path / "npz", "train")


def test_states_without_observations_are_named(tmp_path):
    """What robosuite's own collection script writes."""
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        file["data/demo_1/states"], file["data/demo_1/actions"] = np.zeros((3, 9)), np.zeros((3, 7))
    with pytest.raises(DataError, match=r"demo_1: .*dataset_states_to_obs"):
        read(tmp_path / "demo.hdf5")


def test_libero_says_what_it_was_told(tmp_path):
    path = tmp_path / "scene_demo.hdf5"
    write_robomimic(path, [toy_episode(0)])
    with h5py.File(path, "a") as file:
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": ["open the drawer"]})
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
    (episode,) = read(path)
    assert (episode.facts["task"], episode.facts["fps"]) == ("open the drawer", 20)


def test_strings_of_fixed_length_and_columns_of_one_number_are_read(tmp_path):
    path, episode = tmp_path / "set.hdf5", toy_episode(0)
    write_robomimic(path, [episode])
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = np.bytes_(json.dumps({"env_kwargs": {"control_freq": 20}}))
        file["data/demo_0"].attrs["operator"] = np.bytes_("Ada")
        del file["data/demo_0/rewards"]
        file["data/demo_0/rewards"] = episode.reward[:, None]
    (found,) = read(path)
    assert (found.facts["operator"], found.facts["fps"]) == ("Ada", 20)
    assert np.array_equal(found.reward, episode.reward) and np.array_equal(found.success, episode.success)
    with h5py.File(path, "a") as file:
        del file["data/demo_0/rewards"]
        file["data/demo_0/rewards"] = np.zeros((len(episode), 2))
    with pytest.raises(DataError, match=r"reward has shape \(12, 2\), one number a step"):
        ingest(find_sources(path), tmp_path / "store", at(20))


def test_checksums_of_packed_chunks_are_no_data(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "EPISODE_BYTES", 2**20)
    path, images = tmp_path / "set.hdf5", np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), np.uint8)
    write_robomimic(path, [toy_episode(0)])
    with h5py.File(path, "a") as file:
        file["data/demo_0/obs"].create_dataset("top", data=images, compression="gzip", fletcher32=True)
    assert np.array_equal(read(path)[0].obs["top"], images)


def test_what_leads_out_of_a_recording_is_refused(tmp_path):
    write_lerobot_v21(tmp_path / "set", [toy_episode(0)])
    info = tmp_path / "set" / "meta" / "info.json"
    described = json.loads(info.read_text())
    for place in ("../../secret.parquet", "/etc/passwd", "data/{episode_index.__class__}.parquet"):
        info.write_text(json.dumps({**described, "data_path": place}))
        with pytest.raises(DataError):
            read(tmp_path / "set")
    (tmp_path / "npz").mkdir()
    (tmp_path / "npz" / "episodes.json").write_text("{}")
    np.savez(tmp_path / "outside.npz", action=np.zeros((2, 2)))
    (tmp_path / "npz" / "a.npz").symlink_to(tmp_path / "outside.npz")
    with pytest.raises(DataError, match="leads out"):
        read(tmp_path / "npz")


def test_what_would_run_code_or_fill_the_memory_is_refused(tmp_path, monkeypatch):
    write_npz(tmp_path / "npz", [toy_episode(0)])
    np.savez(tmp_path / "npz" / "001.npz", act=np.array([{}], object))
    with pytest.raises(DataError, match="not an array of numbers"):
        read(tmp_path / "npz")
    monkeypatch.setattr(bounds, "EPISODE_BYTES", 100)
    for name, write in WRITERS.items():
        write(tmp_path / f"big_{name}", [toy_episode(0, 400)])
        with pytest.raises(DataError, match="at most"):
            read(tmp_path / f"big_{name}")


def test_two_cameras_of_one_name_do_not_pass_for_one(tmp_path):
    episode = pictured(0)
    write_lerobot(tmp_path / "set", [replace(episode, obs={**episode.obs, "wrist.top": episode.obs["top"]})])
    with pytest.raises(DataError, match=r"observation.images.wrist.top would have the same name"):
        read(tmp_path / "set")


def test_an_empty_store_is_not_exported(tmp_path):
    with pytest.raises(DataError, match="no episode"):
        export([], tmp_path / "set.hdf5")
    assert list(tmp_path.iterdir()) == []


def test_instructions_of_single_episodes_go_out_and_come_back(tmp_path):
    told = ["open the drawer", "close the oven"]
    (tmp_path / "in").mkdir()
    for name, words in zip("ab", told, strict=True):
        write_robomimic(tmp_path / "in" / f"{name}.hdf5", [toy_episode(n + ord(name)) for n in range(2)])
        with h5py.File(tmp_path / "in" / f"{name}.hdf5", "a") as file:
            file["data"].attrs["problem_info"] = json.dumps({"language_instruction": words})
    export(read(tmp_path / "in"), tmp_path / "set.hdf5")
    assert [episode.facts["task"] for episode in read(tmp_path / "set.hdf5")] == [told[0]] * 2 + [told[1]] * 2


def test_a_recording_inside_of_another_is_refused_not_dropped(tmp_path):
    write_npz(tmp_path / "lift", [toy_episode(0)])
    write_robomimic(tmp_path / "lift" / "demos.hdf5", [toy_episode(1)])
    with pytest.raises(DataError, match=r"lift is one recording \(npz\), and demos.hdf5 in it would not be read"):
        read(tmp_path)


def test_nor_is_one_beside_a_minari_recordings_own_file_dropped(tmp_path):
    write_minari(tmp_path / "set", [toy_episode(0)])
    assert len(read(tmp_path)) == 1
    write_robomimic(tmp_path / "set" / "more.hdf5", [toy_episode(1)])
    with pytest.raises(DataError, match=r"one recording \(minari\), and more.hdf5 in it"):
        read(tmp_path)


def test_the_subset_is_named_in_the_file_itself(tmp_path):
    write_robomimic(tmp_path / "set.hdf5", [toy_episode(0)])
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["names"] = np.array([b"demo_0"])
    with h5py.File(tmp_path / "set.hdf5", "a") as file:
        file.create_group("mask")["train"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "names")
    with pytest.raises(DataError, match="'train' is missing"):
        read(tmp_path / "set.hdf5", "train")


def test_depth_is_refused_not_cut_off():
    deep = io.BytesIO()
    Image.fromarray(np.array([[0, 300], [1000, 40000]], np.uint16)).save(deep, "PNG")
    with pytest.raises(DataError, match=r"depth: images of I;16 are not read"):
        lerobot._pictures([{"bytes": deep.getvalue()}], "depth")


@pytest.mark.parametrize(("shaped", "said", "solved"), [(False, False, 1), (True, False, 0), (True, True, 1)])
def test_success_is_read_from_sparse_rewards_or_said(tmp_path, shaped, said, solved):
    episode = toy_episode(0)
    write_robomimic(tmp_path / "demos.hdf5", [episode])
    with h5py.File(tmp_path / "demos.hdf5", "r+") as file:
        demo, done = file["data/demo_0"], np.arange(len(episode)) == len(episode) - 1
        del demo["rewards"]
        demo["rewards"] = (0.3 + 0.7 * done if shaped else done).astype(np.float32)
        if said:
            demo["success"] = done.astype(np.float32)
    (found,) = find_sources(tmp_path / "demos.hdf5")[0].episodes()
    assert found.success.sum() == solved


def test_the_names_of_an_action_are_kept(tmp_path):
    write_lerobot(tmp_path / "set", [toy_episode(0)])
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    for names in (["a", "b"], {"motors": ["a", "b"]}):
        info["features"]["action"]["names"] = names
        (tmp_path / "set/meta/info.json").write_text(json.dumps(info))
        (found,) = find_sources(tmp_path / "set")[0].episodes()
        assert found.facts["action_names"] == ["a", "b"]
