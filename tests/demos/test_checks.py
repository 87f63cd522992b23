"""Each check on recordings that are right but for one thing, and on recordings that are right."""

import json
from dataclasses import replace

import numpy as np
import pytest
from recordings import write_lerobot, write_robomimic
from toy import toy_episode
from typer.testing import CliRunner

from postbc.cli import app
from postbc.demos.checks import CHECKS, EVERYWHERE, Checker, Expected, Severity
from postbc.demos.ingest import ingest
from postbc.demos.readers import find_sources
from postbc.errors import ConfigError, DataError
from postbc.storage.atomic import read_json

TASK = Expected(10, (-1.0, -1.0), (1.0, 1.0), {"env_name": "Toy", "env_version": "2"}, ("x", "y"))
LENGTH = 30


def good(number):
    """Where a point is and how fast it goes; actions are its velocity."""
    random = np.random.default_rng(number)
    action = np.clip(0.3 * random.standard_normal((LENGTH, 2)), -0.9, 0.9).astype(np.float32)
    position = np.cumsum(np.vstack([np.zeros((1, 2)), action[:-1]]), 0).astype(np.float32)
    success = np.arange(LENGTH) == LENGTH - 1
    return replace(toy_episode(number, LENGTH), action=action, obs={"position": position}, success=success)


def with_action(episode, change):
    action = episode.action.copy()
    change(action)
    return replace(episode, action=action)


def with_position(episode, change):
    position = episode.obs["position"].copy()
    change(position)
    return replace(episode, obs={"position": position})


def put(where, value):
    return lambda array: array.__setitem__(where, value)


def cut(episode, length):
    parts = {k: getattr(episode, k)[:length] for k in ("action", "reward", "success")}
    return replace(episode, obs={k: v[:length] for k, v in episode.obs.items()}, **parts)


def held(position):
    position[10:20] = position[10]


ONE = {  # what is done to the third of six episodes, the check that finds it, the frame that it names
    "malformed": (lambda e: with_action(e, put((4, 0), np.nan)), None),
    "other_simulator": (lambda e: replace(e, facts={**e.facts, "env_args": '{"env_version": "1"}'}), None),
    "rate": (lambda e: replace(e, facts={**e.facts, "fps": 30.0}), None),
    "out_of_range": (lambda e: with_action(e, put((7, 1), 1.2)), 7),
    "duplicate_episode": (lambda e: replace(good(0), facts=e.facts), None),
    "other_order": (lambda e: replace(e, facts={**e.facts, "action_names": ["y", "x"]}), None),
    "timestamps": (lambda e: replace(e, timestamp=np.r_[np.arange(20), 18, np.arange(21, 30)] / 10), 20),
    "off_rate": (lambda e: replace(e, timestamp=np.r_[np.arange(20), np.arange(21, 31)] / 10), 20),
    "frozen": (lambda e: with_position(e, held), 10),
    "jump": (lambda e: with_position(e, lambda p: p.__iadd__(np.where(np.arange(LENGTH)[:, None] > 14, 40, 0))), 15),
    "length_outlier": (lambda e: cut(e, 9), None),
    "no_success": (lambda e: replace(e, success=e.success & False), None),
}
ALL = {  # what is done to every episode
    "constant_dimension": lambda e: with_action(e, put((slice(None), 1), 0.5)),
    "nearly_constant": lambda e: with_action(e, lambda a: a.__setitem__((slice(None), 1), 0.5 + 1e-5 * a[:, 1])),
    "duplicated_dimension": lambda e: with_action(e, lambda a: a.__setitem__((slice(None), 1), a[:, 0])),
    "saturated": lambda e: with_action(e, put((slice(0, 10), 0), 1.0)),
    "several_tasks": lambda e: replace(e, facts={**e.facts, "task": f"Lift {e.action[0, 0] > 0}"}),
}


def findings(episodes, expected=TASK):
    checker = Checker(expected)
    found = [one for n, episode in enumerate(episodes) for one in checker.add(episode, f"set: demo_{n}")]
    return found + checker.finish()


def test_every_check_is_tried_here():
    assert {*ONE, *ALL, "absolute_or_delta", "unreadable"} == CHECKS.keys()


def test_good_recordings_are_found_good():
    assert [one.check for one in findings([good(n) for n in range(6)])] == ["absolute_or_delta"]


@pytest.mark.parametrize("name", ONE)
def test_one_bad_episode_is_found_and_nothing_else(name):
    harm, frame = ONE[name]
    episodes = [good(n) for n in range(6)]
    episodes[2] = harm(episodes[2])
    found = [one for one in findings(episodes) if one.severity is not Severity.NOTE]
    assert [(one.check, one.where) for one in found][:1] == [(name, "set: demo_2")]
    assert found[0].frame == frame
    # A short episode has lost its success too.
    assert {one.check for one in found} <= {name, "no_success" if name == "length_outlier" else name}


@pytest.mark.parametrize("name", ALL)
def test_what_is_wrong_with_all_is_found(name):
    found = [one for one in findings([ALL[name](good(n)) for n in range(6)]) if one.severity is not Severity.NOTE]
    assert [(one.check, one.where) for one in found] == [(name, EVERYWHERE)]


def test_a_duplicate_is_one_whatever_was_paid_for_it():
    episodes = [good(0), good(1), replace(good(0), reward=good(0).reward + 1)]
    assert [one.check for one in findings(episodes) if one.severity is Severity.ERROR] == ["duplicate_episode"]


def test_an_action_of_thousands_of_numbers_is_malformed():
    wide = replace(good(0), action=np.zeros((LENGTH, 3000), np.float32))
    assert [one.check for one in findings([wide])] == ["malformed"]


def test_a_gripper_that_only_opens_and_closes_is_not_saturated():
    def harm(action):
        action[:, 1] = np.where(np.arange(LENGTH) < 12, -1, 1)

    assert {one.check for one in findings([with_action(good(n), harm) for n in range(6)])} == {"absolute_or_delta"}


def test_absolute_targets_and_deltas_are_told_apart():
    deltas = [good(n) for n in range(6)]
    absolute = [replace(e, action=np.roll(e.obs["position"], -1, 0)) for e in deltas]
    (one,) = findings(deltas)
    assert "deltas" in one.message and "the change of position, number 0" in one.message
    (one,) = findings(absolute, Expected(10))
    assert "absolute targets" in one.message and "the value of position, number 1" in one.message


def test_errors_stop_an_ingest_unless_allowed_and_warnings_stay_with_the_store(tmp_path):
    path, store = tmp_path / "set.hdf5", tmp_path / "store"
    episodes = [good(n) for n in range(6)]
    write_robomimic(path, [*episodes, with_action(good(7), put((7, 1), 1.2)), cut(good(8), 5)])
    with pytest.raises(
        DataError, match=r"set.hdf5: demo_6: number 1 is 1.2, limits -1 to 1 at frame 7 \[out_of_range\]"
    ):
        ingest(find_sources(path), store, Checker(TASK))
    assert not (store / "store.json").exists()
    told = ingest(find_sources(path), store, Checker(TASK, ["out_of_range"]))
    kept = read_json(store / "store.json")["warnings"]
    assert told["warnings"] == len(kept)
    assert {one["check"] for one in kept} == {"out_of_range", "length_outlier", "no_success"}
    for name in ("malformed", "unreadable", "nonsense"):
        with pytest.raises(ConfigError, match=f"{name}: no check that can be allowed"):
            Checker(TASK, [name])


def test_the_command_reports_everything_at_once(tmp_path):
    run = CliRunner().invoke
    write_robomimic(tmp_path / "a.hdf5", [good(n) for n in range(3)])
    result = run(app, ["check", str(tmp_path), "--task", "reach", "--json"])
    assert (result.exit_code, json.loads(result.stdout)["errors"]) == (0, 0)
    write_robomimic(tmp_path / "b.hdf5", [good(0), with_action(good(4), put((4, 0), np.nan))])
    (tmp_path / "c.hdf5").write_bytes(b"not hdf5")
    result = run(app, ["check", str(tmp_path), "--json", "--html", str(tmp_path / "page.html")])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["errors"]) == (1, 3)
    errors = [(one["check"], one["where"]) for one in told["findings"] if one["severity"] == "error"]
    assert errors == [
        ("duplicate_episode", f"{tmp_path}/b.hdf5: demo_0"),
        ("malformed", f"{tmp_path}/b.hdf5: demo_1"),
        ("unreadable", f"{tmp_path}/c.hdf5"),
    ]
    assert "duplicate_episode" in (tmp_path / "page.html").read_text()
    allowed = run(app, ["check", str(tmp_path / "b.hdf5"), "--allow", "duplicate_episode"])
    assert allowed.exit_code == 1
    assert "not finite" in allowed.stdout


def test_lerobots_own_timestamps_are_on_the_rate(tmp_path):
    write_lerobot(tmp_path / "set", [good(n) for n in range(2)])
    episodes = [e for source in find_sources(tmp_path / "set") for e in source.episodes()]
    assert episodes[0].timestamp is not None
    assert {one.check for one in findings(episodes)} == {"absolute_or_delta"}


def test_episodes_of_one_name_are_episodes_all_the_same():
    checker = Checker(TASK)
    failed = replace(good(1), success=np.zeros(LENGTH, bool))
    for episode in (good(0), failed, good(2), replace(good(3), success=np.zeros(LENGTH, bool))):
        checker.add(episode, "store: demo_0")
    assert len(checker.lengths) == 4
    assert [found.check for found in checker.finish()].count("no_success") == 2


def test_bytes_and_numbers_do_not_lie_under_one_key():
    checker, image = Checker(TASK), np.zeros((LENGTH, 4, 4, 3))
    kinds = [image.astype(np.uint8), image.astype(np.float32)]
    both = [replace(good(n), obs={**good(n).obs, "top": kind}) for n, kind in enumerate(kinds)]
    assert not [found for found in checker.add(both[0], "a") if found.check == "malformed"]
    assert [found.check for found in checker.add(both[1], "b")] == ["malformed"]


def test_actions_of_another_length_can_not_be_allowed():
    checker = Checker(TASK, ["out_of_range"])
    (found,) = checker.add(replace(good(0), action=good(0).action[:, :1]), "set: demo_0")
    assert (found.check, found.message) == ("malformed", "1 numbers, the task takes 2") and checker.stops(found)


@pytest.mark.parametrize("names", [["x", "y"], ["left", "right"]])
def test_names_in_the_tasks_order_and_names_of_ones_own_pass(names):
    episode = replace(good(0), facts={**good(0).facts, "action_names": names})
    assert not {one.check for one in findings([episode])} & {"other_order"}
