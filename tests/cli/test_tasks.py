"""``postbc tasks`` and ``postbc collect`` as a user types them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import h5py
import pytest
import yaml
from recordings import write_store
from toy import toy_episode
from typer.testing import CliRunner

from postbc.cli import app
from postbc.compose import load_config

ROOT = Path(__file__).parents[2]

run = CliRunner().invoke


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tasks_are_listed_with_their_sizes_and_speed():
    rows = json.loads(run(app, ["tasks", "reach", "pusht", "--speed", "--json"]).stdout)
    assert [(row["task"], row["state"], row["environment"], row["action"]) for row in rows] == [
        ("reach", 2, 2, 2),
        ("pusht", 2, 16, 2),
    ]
    assert min(row["steps_per_second"] for row in rows) > 0
    shown = run(app, ["tasks", "reach"]).stdout
    assert "above, below" in shown


def test_any_task_is_collected_and_filmed_without_a_project(here):
    done = run(app, ["collect", "demos.hdf5", "--task", "reach", "--episodes", "4", "--videos", "2"])
    assert done.exit_code == 0, done.output
    with h5py.File(here / "demos.hdf5") as file:
        assert len(file["data"]) == 4
    videos = sorted((here / ".work" / "videos" / "reach").glob("*.mp4"))
    assert {path.name.split(".")[0] for path in videos} == {"above", "below"}
    with av.open(str(videos[0])) as container:
        assert len(list(container.decode(video=0))) > 5


def test_only_what_was_collected_is_replaced_unasked(here):
    recorded = b"somebody's afternoon"
    (here / "demos.hdf5").write_bytes(recorded)
    asked = ["collect", "demos.hdf5", "--task", "reach", "--episodes"]
    refused = run(app, [*asked, "1"])
    assert refused.exit_code == 2 and "--force replaces it" in refused.stderr
    assert (here / "demos.hdf5").read_bytes() == recorded
    assert run(app, [*asked, "1", "--force"]).exit_code == run(app, [*asked, "2"]).exit_code == 0
    with h5py.File(here / "demos.hdf5", "a") as file:
        assert len(file["data"]) == 2
        file["data"].create_group("demo_2").attrs["operator"] = "Ada"
    assert run(app, [*asked, "3"]).exit_code == 2


def test_a_presets_mistakes_are_the_users(here):
    shutil.copytree(ROOT / "conf", here / "conf")
    preset = here / "conf" / "task" / "pusht.yaml"
    preset.write_text(preset.read_text().replace("chunk:", "chunks:"))
    refused = run(app, ["collect", "demos.hdf5", "--task", "pusht"])
    assert refused.exit_code == 2 and "chunks" in refused.stderr


def test_any_task_becomes_a_preset_that_the_pipeline_takes(here):
    shutil.copytree(ROOT / "conf", here / "conf", ignore=shutil.ignore_patterns("metaworld-*"))
    done = run(app, ["preset", "metaworld/door-open", "--chunk", "8"])
    assert done.exit_code == 0, done.output
    (here / "params.yaml").write_text("task: metaworld-door-open\nsize: default\n")
    task = load_config(here).task
    assert (task.env, task.fps, task.max_steps, task.chunk) == ("metaworld/door-open", 80, 500, 8)
    again = run(app, ["preset", "metaworld/door-open"])
    assert again.exit_code == 2
    assert "exists" in again.output


def test_words_and_numbers_of_a_preset_are_what_was_asked_for_or_refused(here):
    (here / "conf" / "task").mkdir(parents=True)
    assert run(app, ["preset", "reach", "--chunk", "0"]).exit_code == 2
    assert not list((here / "conf" / "task").iterdir())
    words = 'Task: open the "door" # slowly'
    assert run(app, ["preset", "reach", "--instruction", words]).exit_code == 0
    assert yaml.safe_load((here / "conf/task/reach.yaml").read_text())["task"]["instruction"] == words


def test_the_presets_that_come_with_the_project_are_what_the_command_writes(here):
    (here / "conf" / "task").mkdir(parents=True)
    words = ["--chunk", "8", "--instruction", "Bring the puck to the goal."]
    assert run(app, ["preset", "metaworld/pick-place", *words]).exit_code == 0
    written = "conf/task/metaworld-pick-place.yaml"
    assert (here / written).read_text() == (ROOT / written).read_text()


def test_recordings_are_checked_against_the_rate_of_their_preset(here):
    shutil.copytree(ROOT / "conf", here / "conf")
    preset = {"name": "slow", "env": "lift", "fps": 10, "max_steps": 60, "chunk": 4}  # lift itself runs at 20 Hz
    (here / "conf/task/slow.yaml").write_text(f"# @package _global_\n{json.dumps({'task': preset})}")
    write_store(here / "demos", [replace(toy_episode(n), facts={"name": f"{n}"}) for n in range(2)])
    done = run(app, ["check", str(here / "demos"), "--task", "slow", "--json"])
    assert not {"unreadable", "rate"} & {one["check"] for one in json.loads(done.stdout)["findings"]}


def test_an_unknown_task_is_the_users_mistake(here):
    done = run(app, ["collect", "demos.hdf5", "--task", "raech"])
    assert done.exit_code == 2
    assert "reach" in done.output
    assert not list(here.iterdir())
