"""``postbc inspect`` as a user types it, on every format."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from recordings import TASK, WRITERS, write_npz, write_robomimic
from toy import pictured, toy_episode
from typer.testing import CliRunner

from postbc.cli import app

run = CliRunner().invoke


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_described(tmp_path, name):
    episodes = [toy_episode(n, 5 + n) for n in range(3)]
    WRITERS[name](tmp_path / name, episodes)
    (told,) = json.loads(run(app, ["inspect", str(tmp_path), "--json"]).stdout)
    assert (told["episodes"], told["steps"]) == (3, 18)
    assert told["length"] == {"shortest": 5, "median": 6.0, "longest": 7}
    assert told["keys"].keys() == {"action", "reward", "success", "obs/goal", "obs/position"}
    action = np.concatenate([e.action for e in episodes])
    assert told["keys"]["action"]["shape"] == [2]
    assert np.allclose(told["keys"]["action"]["low"], action.min(0))
    assert np.allclose(told["keys"]["action"]["high"], action.max(0))
    knows_success = not name.startswith("replay")
    assert told["episodes_with_success"] == (3 if knows_success else 0)
    if name in ("npz", "lerobot", "lerobot_v21"):
        assert told["tasks"] == {TASK: 3}
        assert told["fps"] == [10.0]


def test_words_in_brackets_are_words(tmp_path):
    write_npz(tmp_path / "set", [toy_episode(0)])
    said = json.loads((tmp_path / "set" / "episodes.json").read_text())
    (tmp_path / "set" / "episodes.json").write_text(json.dumps({**said, "task": "close the [/drawer] and [red] door"}))
    assert "close the [/drawer] and [red] door" in run(app, ["inspect", str(tmp_path / "set")]).stdout


def test_a_table_and_a_page(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3)).astype(np.uint8)
    episode = toy_episode(0)
    write_npz(tmp_path / "npz", [replace(episode, obs={**episode.obs, "top": images})])
    write_robomimic(tmp_path / "set.hdf5", [toy_episode(1)])
    result = run(app, ["inspect", str(tmp_path), "--page", str(tmp_path / "page.png")])
    assert result.exit_code == 0
    assert TASK in result.stdout and "8×8×3" in result.stdout and "operator: somebody" in result.stdout
    for number in (1, 2):
        with Image.open(tmp_path / f"page-{number}.png") as page:
            assert page.width > 1000


def test_what_is_wrong_is_shown_not_refused(tmp_path):
    bad = toy_episode(0)
    bad.action[3, 0] = np.nan
    wide = replace(
        toy_episode(1), obs={"goal": np.zeros((12, 3), np.float32), "position": np.zeros((12, 2), np.float32)}
    )
    write_robomimic(tmp_path / "set.hdf5", [bad, wide])
    (told,) = json.loads(run(app, ["inspect", str(tmp_path), "--json"]).stdout)
    assert told["keys"]["action"]["frames_not_finite"] == 1
    assert told["keys"]["obs/goal"]["episodes_of_other_shape"] == 1
    assert "1 frames not finite" in run(app, ["inspect", str(tmp_path)]).stdout


def test_an_empty_episode_is_no_reason_not_to_look(tmp_path):
    whole = pictured(0)
    cut = {name: getattr(whole, name)[:0] for name in ("action", "reward", "success")}
    empty = replace(whole, **cut, obs={key: values[:0] for key, values in whole.obs.items()})
    write_robomimic(tmp_path / "set.hdf5", [empty, whole])
    done = run(app, ["inspect", str(tmp_path / "set.hdf5"), "--page", str(tmp_path / "page.png")])
    assert done.exit_code == 0 and (tmp_path / "page.png").stat().st_size > 10_000


def test_nothing_readable_is_said_in_one_line(tmp_path):
    result = run(app, ["inspect", str(tmp_path)])
    assert result.exit_code == 2
    assert "no demonstrations that can be read" in result.stderr


def test_arrays_that_are_no_images_are_listed_not_drawn(tmp_path):
    episode, channel_first = toy_episode(0), np.zeros((12, 3, 16, 16), np.uint8)
    write_npz(tmp_path / "npz", [replace(episode, obs={**episode.obs, "top": channel_first})])
    result = run(app, ["inspect", str(tmp_path), "--page", str(tmp_path / "page.png")])
    assert result.exit_code == 0, result.output
    assert "3×16×16" in result.stdout and (tmp_path / "page.png").is_file()
