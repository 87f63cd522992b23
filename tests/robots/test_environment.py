import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from postbc.config import GuardConfig, RobotConfig, TaskConfig
from postbc.demos.store import listed_segments, read_store
from postbc.errors import ConfigError, RobotError, UnsafeActionError
from postbc.robots.environment import make_robot, robot_env
from postbc.robots.operator import ConsoleOperator
from postbc.robots.recorder import Recorder, read_journal

TASK = TaskConfig(name="reach", env="reach", fps=10, max_steps=30, chunk=2)
TWIN = RobotConfig(options={"latency": 0}, arm="simulated")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_twin_is_the_task_when_nothing_is_altered():
    from postbc.sims import get_task

    twin, plain = robot_env(TWIN, TASK), get_task("reach").make()
    seen = twin.reset(seed=5)[0], plain.reset(seed=5)[0]
    for _ in range(10):
        assert all(np.allclose(seen[0][key], seen[1][key]) for key in seen[1])
        action = np.array([0.3, -0.7], np.float32)
        seen = twin.step(action)[0], plain.step(action)[0]
    twin.close()


def test_altered_dynamics_change_what_happens():
    def positions(options):
        env = robot_env(RobotConfig(options=options), TASK)
        env.reset(seed=5)
        return np.array([env.step(np.array([0.5, 0.5]))[0]["agent_pos"] for _ in range(5)])

    plain = positions({})
    assert not np.allclose(positions({"latency": 2}), plain)
    noisy = positions({"sensor_noise": 0.01})
    assert 0 < np.abs(noisy - plain).max() < 0.1


def test_an_unsafe_action_disconnects_the_robot_and_is_not_sent():
    env = robot_env(TWIN, TASK)
    env.reset(seed=0)
    before = env.robot.get_observation()
    with pytest.raises(UnsafeActionError):
        env.step(np.array([np.nan, 0]))
    assert not env.robot.is_connected
    env.robot._connected = True
    assert env.robot.get_observation() == before
    env.robot.disconnect()
    with pytest.raises(RobotError, match="not connected"):
        env.robot.send_action({"action.0": 0.0, "action.1": 0.0})


def test_every_step_is_recorded_as_executed(tmp_path):
    guarded = replace(TWIN, guard=GuardConfig([-1.0, -1.0], [1.0, 1.0], [0.25, 0.25]))
    recorder = Recorder(tmp_path / "store", TASK.fps, {"robot": "twin", "operator": "me"})
    env = robot_env(guarded, TASK, recorder)
    for seed in range(3):
        seen = [env.reset(seed=seed)[0]]
        for _ in range(4 + seed):
            seen.append(env.step(np.array([1.0, -1.0]) if seed else np.array([0.5, 0.5]))[0])
    env.close()
    recorder.close()
    episodes = list(read_store(tmp_path / "store"))
    assert [len(e) for e in episodes] == [4, 5, 6]
    assert [e.facts["seed"] for e in episodes] == [0, 1, 2]
    assert {e.facts["source"] for e in episodes} == {"robot"}
    assert np.allclose(episodes[2].obs["agent_pos"], [s["agent_pos"] for s in seen[:-1]])
    assert len(listed_segments(tmp_path / "store")) == 1  # the session's episodes were joined


KILLED = """
import os, signal, sys
from pathlib import Path
from postbc.robots.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), 10, {"robot": "twin"})
for episode in range(2):
    recorder.begin(episode)
    for step in range(7):
        recorder.step({"x": [float(step)]}, [0.5], False)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_session_loses_no_step(tmp_path):
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False)
    assert done.returncode == -signal.SIGKILL
    journal = next(store.glob("*.jsonl"))
    assert len(read_journal(journal)[1]) == 7
    with journal.open("ab") as file:
        file.write(b'{"obs": {"x": [9')  # and a line that was cut off
    recorder = Recorder(store, 10, {"robot": "twin"})
    recorder.close()
    assert [len(e) for e in read_store(store)] == [7, 7]
    assert not list(store.glob("*.jsonl"))
    recorder.begin(9)
    assert recorder._path.stem not in listed_segments(store)
    recorder.end()


def test_unknown_robots_options_and_features_are_named():
    with pytest.raises(ConfigError, match="postbc_twin"):
        make_robot(RobotConfig(type="no_such_robot"), TASK)
    with pytest.raises(ConfigError, match="wings"):
        make_robot(RobotConfig(options={"wings": 2}), TASK)
    with pytest.raises(ConfigError, match=r"elbow\.pos"):
        robot_env(RobotConfig(state=["elbow.pos"]), TASK)


def test_a_real_robot_needs_a_person_at_the_terminal(monkeypatch):
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(RobotError, match="terminal"):
            ConsoleOperator()
