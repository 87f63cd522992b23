"""Collected demonstrations: the same arguments give the same bytes, and small sets begin the large ones."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from postbc.config import TaskConfig
from postbc.errors import ConfigError, DataError
from postbc.sims import get_task
from postbc.sims.collect import collect

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
    collect(REACH, first, 3)
    collect(REACH, again, 3)
    collect(REACH, other, 3, seed=1)
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_a_small_set_is_the_beginning_of_a_large_one(tmp_path: Path):
    collect(REACH, tmp_path / "small.hdf5", 2, scale=2.0)
    collect(REACH, tmp_path / "large.hdf5", 6, scale=2.0)
    large = contents(tmp_path / "large.hdf5")
    for name, values in contents(tmp_path / "small.hdf5").items():
        np.testing.assert_array_equal(values, large[name])


def test_the_file_has_robomimics_layout_and_replays(tmp_path: Path):
    path = tmp_path / "lift.hdf5"
    tally = collect(LIFT, path, 2, seed=3)
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
    tally = collect(REACH, tmp_path / "reach.hdf5", 12)
    assert min(tally.successes["above"], tally.successes["below"]) >= 2


def test_chosen_operators_alone_act(tmp_path: Path):
    tally = collect(REACH, tmp_path / "reach.hdf5", 4, operators=["above"])
    assert set(tally.attempts) == {"above"}


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (REACH, {"operators": ["sideways"]}, "above, below"),
        (REACH, {"operators": []}, "above, below"),
        (REACH, {"episodes": 0}, "episodes = 0"),
        (REACH, {"scale": -1.0}, "scale = -1"),
        (TaskConfig(name="pusht", env="pusht", chunk=8), {}, "no scripted operators"),
    ],
)
def test_impossible_arguments_are_refused_before_any_work(tmp_path: Path, task, arguments, message):
    with pytest.raises(ConfigError, match=message):
        collect(task, tmp_path / "none.hdf5", **{"episodes": 1, **arguments})
    assert not list(tmp_path.iterdir())


def test_hopeless_operators_are_given_up_and_the_old_file_stays(tmp_path: Path):
    path = tmp_path / "reach.hdf5"
    collect(REACH, path, 1)
    before = path.read_bytes()
    with pytest.raises(DataError, match="attempts gave 0 of 1"):
        collect(TaskConfig(name="reach", env="reach", fps=10, max_steps=5), path, 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
