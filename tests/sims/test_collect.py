"""Collected demonstrations: the same arguments give the same bytes, and small sets begin the large ones."""

import errno
import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from postbc.config import TaskConfig
from postbc.errors import ConfigError, DataError
from postbc.sims import get_task
from postbc.sims.demonstrators import collect as collecting
from postbc.sims.demonstrators.collect import Recipe, collect
from postbc.sims.demonstrators.recording import Episode
from postbc.sims.task import TaskEnv

REACH = TaskConfig(name="reach", env="reach", fps=10, max_steps=80)
LIFT = TaskConfig(name="lift", env="lift", fps=20, max_steps=120, options={"placement": 0.1})


def contents(path: Path) -> dict[str, np.ndarray]:
    """Every data set of a file by its path."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path):
    first, again, other = (tmp_path / name for name in ("a.hdf5", "b.hdf5", "c.hdf5"))
    collect(Recipe.of(REACH), first, 3)
    collect(Recipe.of(REACH), again, 3)
    collect(Recipe.of(REACH, seed=1), other, 3)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_a_small_set_is_the_beginning_of_a_large_one(tmp_path: Path):
    collect(Recipe.of(REACH, scale=2.0), tmp_path / "small.hdf5", 2)
    collect(Recipe.of(REACH, scale=2.0), tmp_path / "large.hdf5", 6)
    large = contents(tmp_path / "large.hdf5")
    for name, values in contents(tmp_path / "small.hdf5").items():
        np.testing.assert_array_equal(values, large[name])


def test_the_file_has_robomimics_layout_and_replays(tmp_path: Path):
    path = tmp_path / "lift.hdf5"
    tally = collect(Recipe.of(LIFT, seed=3), path, 2)
    task = get_task("lift")
    env = task.make(**LIFT.options)
    with h5py.File(path) as file:
        data = file["data"]
        args = json.loads(data.attrs["env_args"])
        assert (args["env_name"], args["type"], args["env_version"]) == ("Lift", 1, "1.5.1")
        assert args["env_kwargs"]["placement"] == 0.1
        assert args["versions"] == task.versions()
        assert data.attrs["total"] == sum(tally.lengths)
        for name, demo in data.items():
            length = tally.lengths[int(name.removeprefix("demo_"))]
            assert demo.attrs["num_samples"] == length
            assert demo.attrs["success"]
            assert demo.attrs["operator"] in task.operators()
            assert demo["rewards"][:].tolist() == demo["dones"][:].tolist() == [0] * (length - 1) + [1]
            state, environment = task.observe({key: values[:] for key, values in demo["obs"].items()})
            assert (state.shape, environment.shape) == ((length, 9), (length, 10))
            observation, _ = env.reset(seed=int(demo.attrs["seed"]))
            for t, action in enumerate(demo["actions"][:]):
                np.testing.assert_array_equal(observation["agent_pos"], state[t])
                np.testing.assert_array_equal(observation["environment_state"], environment[t])
                np.testing.assert_array_equal(env.simulator_state(), demo["states"][t])
                observation, _, terminated, _, _ = env.step(action)
            assert terminated


def test_both_ways_round_the_disc_are_shown(tmp_path: Path):
    tally = collect(Recipe.of(REACH), tmp_path / "reach.hdf5", 12)
    assert min(tally.successes["above"], tally.successes["below"]) >= 2


def test_chosen_operators_alone_act(tmp_path: Path):
    tally = collect(Recipe.of(REACH, operators=["above"]), tmp_path / "reach.hdf5", 4)
    assert set(tally.attempts) == {"above"}


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (REACH, {"operators": ["sideways"]}, "above, below"),
        (REACH, {"operators": []}, "above, below"),
        (REACH, {"episodes": 0}, "episodes = 0"),
        (REACH, {"scale": -1.0}, "scale = -1"),
        (REACH, {"workers": 0}, "workers = 0"),
        (TaskConfig(name="pusht", env="pusht", chunk=8), {}, "no scripted operators"),
    ],
)
def test_impossible_arguments_are_refused_before_any_work(tmp_path: Path, task, arguments, message):
    with pytest.raises(ConfigError, match=message):
        sizes = {"episodes": 1, **{key: arguments.pop(key) for key in ("episodes", "workers") if key in arguments}}
        collect(Recipe.of(task, **arguments), tmp_path / "none.hdf5", **sizes)
    assert not list(tmp_path.iterdir())


def test_hopeless_operators_are_given_up_and_the_old_file_stays(tmp_path: Path):
    path = tmp_path / "reach.hdf5"
    collect(Recipe.of(REACH), path, 1)
    before = path.read_bytes()
    with pytest.raises(DataError, match="attempts gave 0 of 1"):
        collect(Recipe.of(TaskConfig(name="reach", env="reach", fps=10, max_steps=5)), path, 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_two_workers_write_the_same_bytes_as_one(tmp_path: Path):
    collect(Recipe.of(REACH), tmp_path / "one.hdf5", 5)
    collect(Recipe.of(REACH), tmp_path / "two.hdf5", 5, workers=2)
    assert (tmp_path / "one.hdf5").read_bytes() == (tmp_path / "two.hdf5").read_bytes()


def test_a_collection_that_was_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, out = tmp_path / "whole.hdf5", tmp_path / "out.hdf5"
    collect(Recipe.of(REACH), whole, 5)
    played: list[int] = []
    attempt = Recipe.attempt

    def dying(recipe: Recipe, env: TaskEnv, k: int) -> Episode:
        if k == 3 and 3 not in played:
            played.append(k)
            raise KeyboardInterrupt
        played.append(k)
        return attempt(recipe, env, k)

    monkeypatch.setattr(Recipe, "attempt", dying)
    with pytest.raises(KeyboardInterrupt):
        collect(Recipe.of(REACH), out, 5)
    assert not out.exists()
    collect(Recipe.of(REACH, seed=1), tmp_path / "other.hdf5", 1)  # takes nothing from what was left behind
    played.clear()
    played.append(3)
    collect(Recipe.of(REACH), out, 5)
    assert sorted(played) == [3, 3, 4]
    assert out.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"whole.hdf5", "out.hdf5", "other.hdf5"}


def test_a_full_disk_loses_no_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    recipe, out = Recipe.of(REACH), tmp_path / "demos.hdf5"
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "write_hdf5", full)
        with pytest.raises(OSError, match="No space"):
            collect(recipe, out, 2)
    assert list(recipe.parts(out).iterdir())
    collect(recipe, out, 2)
    assert not recipe.parts(out).exists()
