import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from recordings import WRITERS, at, write_diffusion_policy, write_robomimic
from toy import toy_episode
from typer.testing import CliRunner

from postbc.cli import app
from postbc.config import Config, IngestConfig
from postbc.demos.ingest import ingest
from postbc.demos.preparation import Drawing, Preparation
from postbc.demos.readers import find_sources
from postbc.demos.store import compact, listed_segments, read_store, segment_names
from postbc.errors import DataError
from postbc.sims.demonstrators.collect import default_task
from stages.ingest import recordings


@pytest.fixture(params=WRITERS)
def recording(request, tmp_path):
    """A recording of each format, and the episodes in it."""
    episodes = [toy_episode(n, 5 + n) for n in range(11)]
    path = tmp_path / "data" / request.param
    path.parent.mkdir()
    WRITERS[request.param](path, episodes)
    return path, episodes


def test_every_format_gives_back_what_was_recorded(recording, tmp_path):
    path, episodes = recording
    store = tmp_path / "store"
    assert len(find_sources(path.parent)) == 1
    assert ingest(find_sources(path.parent), store, at(10)) == {
        "episodes": 11,
        "steps": sum(map(len, episodes)),
        "warnings": 0,
    }
    for stored, episode in zip(read_store(store), episodes, strict=True):
        assert np.array_equal(stored.action, episode.action)
        assert all(np.array_equal(stored.obs[key], episode.obs[key]) for key in episode.obs)
        assert len(stored.facts["sha256"]) == 64


def test_ingesting_again_changes_nothing_and_adding_only_adds(recording, tmp_path):
    path, _ = recording
    store = tmp_path / "store"
    ingest(find_sources(path.parent), store, at(10))
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file() and p.name != "store.json"}
    write_robomimic(path.parent / "more.hdf5", [toy_episode(99)])
    assert ingest(find_sources(path.parent), store, at(10))["episodes"] == 12
    assert all(p.stat().st_mtime_ns == time for p, time in before.items())
    (path.parent / "more.hdf5").unlink()
    assert ingest(find_sources(path.parent), store, at(10))["episodes"] == 11
    assert len(listed_segments(store)) == 1


def test_a_killed_ingest_is_finished_by_the_next(recording, tmp_path):
    path, episodes = recording
    ingest(find_sources(path.parent), tmp_path / "whole", at(10))
    store = tmp_path / "store"
    ingest(find_sources(path.parent), store, at(10))
    (store / "store.json").unlink()  # killed before the commit
    half = store / f".{listed_segments(tmp_path / 'whole')[0]}.abcdef"
    half.mkdir()  # killed while building
    with pytest.raises(DataError, match="not a finished"):
        segment_names(store)
    ingest(find_sources(path.parent), store, at(10))
    assert len(list(read_store(store))) == len(episodes)
    assert not half.exists()
    files = [
        {p.relative_to(s): p.read_bytes() for p in s.rglob("*") if p.is_file()} for s in (store, tmp_path / "whole")
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("source", ["data/reach", "data/reach/mine", "data/other", "/data/reach"])
def test_a_source_that_dvc_does_not_watch_is_warned_of(source, caplog):
    config = Config(task=default_task("reach"), ingest=IngestConfig(source=source))
    assert recordings(config) == Path(source)
    assert (f"DVC watches data/reach/ and not {source}" in caplog.text) != source.startswith("data/reach")


bad = {
    "nan": (
        lambda e: replace(e, action=np.where(np.arange(len(e))[:, None] == 3, np.nan, e.action)),
        "action.*frame 3",
    ),
    "infinite": (lambda e: replace(e, obs={**e.obs, "goal": e.obs["goal"] * np.inf}), "goal.*finite"),
    "empty": (
        lambda e: replace(
            e, action=e.action[:0], reward=e.reward[:0], success=e.success[:0], obs={k: v[:0] for k, v in e.obs.items()}
        ),
        "empty",
    ),
    "short": (lambda e: replace(e, obs={**e.obs, "goal": e.obs["goal"][:-1]}), "goal has 11 frames"),
    "missing": (lambda e: replace(e, obs={"goal": e.obs["goal"]}), "position.*absent"),
    "wide": (lambda e: replace(e, obs={**e.obs, "goal": np.hstack([e.obs["goal"]] * 2)}), r"goal.*\(4,\)"),
}


@pytest.mark.parametrize("kind", bad)
def test_a_bad_episode_is_named_and_leaves_no_store(tmp_path, kind):
    harm, message = bad[kind]
    path = tmp_path / "data" / "demos.hdf5"
    path.parent.mkdir()
    write_robomimic(path, [toy_episode(0), toy_episode(1), harm(toy_episode(2))])
    with pytest.raises(DataError, match=message) as error:
        ingest(find_sources(path.parent), tmp_path / "store", at(10))
    assert "demos.hdf5" in str(error.value)
    assert "demo_2" in str(error.value)
    assert not (tmp_path / "store" / "store.json").exists()


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(DataError, match="dvc pull"):
        find_sources(tmp_path / "absent")
    with pytest.raises(DataError, match=r"robomimic.*Diffusion Policy.*LeRobotDataset.*Minari"):
        find_sources(tmp_path)


@pytest.mark.parametrize("harm", ["truncated", "text", "no data"])
def test_a_corrupt_hdf5_is_named(tmp_path, harm):
    path = tmp_path / "demos.hdf5"
    write_robomimic(path, [toy_episode(n, 400) for n in range(5)])
    if harm == "no data":
        with h5py.File(path, "w") as file:
            file["x"] = [1]
    else:
        path.write_bytes(path.read_bytes()[:3000] if harm == "truncated" else b"not hdf5")
    with pytest.raises(DataError, match=r"demos\.hdf5"):
        ingest(find_sources(path), tmp_path / "store", at(10))


def test_links_out_of_a_file_are_refused(tmp_path):
    write_robomimic(tmp_path / "other.hdf5", [toy_episode(0)])
    with h5py.File(tmp_path / "demos.hdf5", "w") as file:
        file["data"] = h5py.ExternalLink("other.hdf5", "/data")
    with pytest.raises(DataError, match="no group 'data'"):
        ingest(find_sources(tmp_path / "demos.hdf5"), tmp_path / "store", at(10))


def test_pickled_and_missing_zarr_chunks_are_refused(tmp_path):
    path = tmp_path / "replay.zarr"
    write_diffusion_policy(path, [toy_episode(n) for n in range(2)])
    header = path / "data" / "goal" / ".zarray"
    text = header.read_text()
    header.write_text(text.replace("<f4", "|O"))
    with pytest.raises(DataError, match="not a plain array"):
        ingest(find_sources(path), tmp_path / "store", at(10))
    header.write_text(text)
    (path / "data" / "goal" / "0.0").unlink()
    with pytest.raises(DataError, match="missing"):
        ingest(find_sources(path), tmp_path / "store", at(10))


def test_compaction_keeps_every_episode_in_order(tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / "data" / f"{number}.hdf5")
        paths[-1].parent.mkdir(exist_ok=True)
        write_robomimic(paths[-1], [toy_episode(number)])
    store = tmp_path / "store"
    ingest(find_sources(tmp_path / "data"), store, at(10))
    before = list(read_store(store))
    names = listed_segments(store)
    compact(store, names[1:], 10)
    after = list(read_store(store))
    assert len(listed_segments(store)) == 2
    assert all(np.array_equal(a.action, b.action) for a, b in zip(after, before, strict=True))


def test_a_store_goes_out_as_robomimic_and_comes_back(recording, tmp_path):
    path, episodes = recording
    ingest(find_sources(path.parent), tmp_path / "store", at(10))
    command = ["export", str(tmp_path / "out" / "set.hdf5"), "--store", str(tmp_path / "store")]
    assert "11 episodes" in CliRunner().invoke(app, command).stdout
    assert CliRunner().invoke(app, command).exit_code == 2  # nothing is replaced unasked
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    stored = list(read_store(tmp_path / "store"))
    ingest(find_sources(tmp_path / "out"), tmp_path / "again", at(10))
    for ours, theirs in zip(read_store(tmp_path / "again"), stored, strict=True):
        assert all(np.array_equal(ours.arrays()[k], v) for k, v in theirs.arrays().items())
        known = {k: v for k, v in theirs.facts.items() if k not in ("name", "source", "sha256")}
        assert ours.facts.items() >= known.items()
    assert len(stored) == len(episodes)


def test_a_store_of_another_rate_is_not_exported_as_the_tasks(tmp_path, monkeypatch):
    shutil.copytree(Path(__file__).parents[2] / "conf", tmp_path / "conf")
    (tmp_path / "params.yaml").write_text("task: lift\nsize: default\n")  # which runs at 20 steps a second
    monkeypatch.chdir(tmp_path)
    write_robomimic(tmp_path / "demos.hdf5", [toy_episode(0)])
    ingest(find_sources(tmp_path / "demos.hdf5"), tmp_path / "store", at(10))
    asked = ["export", str(tmp_path / "set"), "--store", str(tmp_path / "store")]
    refused = CliRunner().invoke(app, asked)
    assert refused.exit_code == 2 and "holds 10 steps a second, lift of params.yaml has 20" in refused.stderr


def test_stores_are_merged_and_what_is_in_both_is_refused(tmp_path):
    data = tmp_path / "data"
    write_robomimic(tmp_path / "one.hdf5", [toy_episode(n) for n in range(3)])
    ingest(find_sources(tmp_path / "one.hdf5"), data / "a", at(10))
    write_robomimic(tmp_path / "two.hdf5", [toy_episode(n) for n in range(3, 5)])
    ingest(find_sources(tmp_path / "two.hdf5"), data / "b", at(10))
    assert ingest(find_sources(data), tmp_path / "merged", at(10))["episodes"] == 5
    merged = list(read_store(tmp_path / "merged"))
    assert [e.facts["origin"] for e in merged] == ["one.hdf5"] * 3 + ["two.hdf5"] * 2
    assert all(np.array_equal(e.action, toy_episode(n).action) for n, e in enumerate(merged))
    write_robomimic(tmp_path / "two.hdf5", [toy_episode(n) for n in range(2, 5)])
    ingest(find_sources(tmp_path / "two.hdf5"), data / "b", at(10))
    with pytest.raises(DataError, match=r"b: demo_0: the same as .*a: demo_2"):
        ingest(find_sources(data), tmp_path / "merged", at(10))
    assert len(list(read_store(tmp_path / "merged"))) == 5


def test_segments_are_kept_only_for_the_same_episodes(tmp_path, monkeypatch):
    path, store = tmp_path / "demos.hdf5", tmp_path / "store"
    write_robomimic(path, [toy_episode(n) for n in range(30)])
    monkeypatch.setattr("postbc.demos.ingest.SEGMENT_BYTES", 1500)
    assert ingest(find_sources(path), store, at(10))["episodes"] == len(list(read_store(store))) == 30
    monkeypatch.undo()
    assert ingest(find_sources(path), store, at(10))["episodes"] == len(list(read_store(store))) == 30
    write_diffusion_policy(tmp_path / "a.zarr", [toy_episode(n) for n in range(40, 42)])
    sources = [*find_sources(tmp_path / "a.zarr"), *find_sources(path)]
    assert ingest(sources, store, at(10), 10)["episodes"] == len(list(read_store(store))) == 10
    shutil.rmtree(tmp_path / "a.zarr")
    write_diffusion_policy(tmp_path / "a.zarr", [toy_episode(n) for n in range(40, 46)])
    assert ingest(sources, store, at(10), 10)["episodes"] == len(list(read_store(store))) == 10
    before = listed_segments(store)
    ingest(sources, store, at(20), 10)  # at another rate frames have other times
    assert not set(before) & set(listed_segments(store))


def test_what_a_changed_program_makes_of_a_recording_replaces_what_it_made_before(tmp_path):
    path, store = tmp_path / "demos.hdf5", tmp_path / "store"
    write_robomimic(path, [toy_episode(0)])
    for value in (10, 200):
        drawing = Drawing("drawn", lambda obs, value=value: np.full((len(obs["goal"]), 4, 4, 3), value, np.uint8))
        ingest(find_sources(path), store, at(10), prepare=Preparation(drawing=drawing))
        (episode,) = read_store(store)
        assert (episode.obs["drawn"] == value).all()


def test_what_a_file_says_of_itself_is_not_believed(tmp_path):
    path = tmp_path / "demos.hdf5"
    write_robomimic(path, [toy_episode(n) for n in range(2)])
    with h5py.File(path, "a") as file:
        file["data/demo_0"].attrs.update({"name": "bob", "friction": np.nan})
    ingest(find_sources(path), tmp_path / "store", at(10))
    (first, _) = read_store(tmp_path / "store")
    assert (first.facts["name"], first.facts["friction"]) == ("demo_0", "nan")
    for key, value in {"fps": "20 Hz", "env_args": 3}.items():
        with h5py.File(path, "a") as file:
            file["data/demo_1"].attrs[key] = value
        with pytest.raises(DataError, match=f"demo_1: its {key} is '{value}'"):
            ingest(find_sources(path), tmp_path / "store", at(10))
        with h5py.File(path, "a") as file:
            del file["data/demo_1"].attrs[key]
    with h5py.File(path, "a") as file:
        del file["data/demo_1/rewards"]
        file["data/demo_1/rewards"] = 1.0
    with pytest.raises(DataError, match="demo_1"):
        ingest(find_sources(path), tmp_path / "store", at(10))


def test_a_folder_that_is_a_link_is_entered_when_it_is_named(tmp_path):
    (tmp_path / "there").mkdir()
    write_robomimic(tmp_path / "there" / "demos.hdf5", [toy_episode(0)])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "here").symlink_to(tmp_path / "there")
    assert len(find_sources(tmp_path / "data" / "here")) == 1
    with pytest.raises(DataError, match="links are not entered"):
        find_sources(tmp_path / "data")


def test_what_the_limit_leaves_out_is_said(tmp_path, caplog):
    (tmp_path / "in").mkdir()
    write_robomimic(tmp_path / "in" / "demos.hdf5", [toy_episode(n) for n in range(3)])
    write_robomimic(tmp_path / "in" / "mine.hdf5", [toy_episode(9)])
    with caplog.at_level("WARNING"):
        assert ingest(find_sources(tmp_path / "in"), tmp_path / "store", at(10), 3)["episodes"] == 3
    assert "max_episodes = 3 is reached: nothing is taken from" in caplog.text
    assert "mine.hdf5" in caplog.text
