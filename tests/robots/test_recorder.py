"""Every step is kept as it was executed, whatever ends the session."""

import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from arm import arm_env
from sessions import TASK, TWIN, own_env

from postbc.config.robot import GuardConfig
from postbc.demos.store import listed_segments, read_store
from postbc.errors import RobotError
from postbc.robots.operator import Verdict
from postbc.robots.recorder import Recorder, read_journal
from postbc.sims import get_task


def test_every_step_is_recorded_as_executed(tmp_path):
    recorder = Recorder(tmp_path / "store", TASK.fps, {"robot": "twin", "operator": "me"})
    env = own_env(replace(TWIN, guard=GuardConfig([-1.0, -1.0], [1.0, 1.0], [0.25, 0.25])))
    env.recorder = recorder
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
    state, environment = get_task("reach").see(episodes[0].obs)  # as exports and trainings read them
    assert (state.shape, environment.shape) == ((4, 2), (4, 2))


KILLED = """
import os, signal, sys
from pathlib import Path
from postbc.robots.guard import limits_fingerprint
from postbc.robots.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), 10, {"robot": "twin"})
for episode in range(2):
    recorder.begin(episode)
    for step in range(7):
        recorder.step({"x": [float(step)]}, [0.5])
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


def test_success_where_no_action_was_sent_is_the_last_ones(tmp_path):
    env = arm_env("x.delta", "elbow.pos")[1]  # nothing that could be kept
    env.recorder = Recorder(tmp_path, 10, {})
    env.reset(seed=0)
    env.step(np.array([0.5]))
    env.step(np.array([0.5]))
    env.operator.verdict = lambda: Verdict.SUCCESS
    assert env.keep()[1:3] == (1.0, True)
    env.close()
    (episode,) = read_store(tmp_path)
    assert episode.success.tolist() == [False, True] and episode.reward.tolist() == [0, 1]


def test_what_a_killed_session_left_is_not_joined_with_another_shape(tmp_path):
    for width in (3, 4):
        recorder = Recorder(tmp_path, 10, {})
        for seed in range(2):
            recorder.begin(seed)
            recorder.step({"agent_pos": np.zeros(width)}, np.zeros(2))
        if width == 4:
            recorder.close()
    shapes = [episode.obs["agent_pos"].shape for episode in read_store(tmp_path)]
    assert shapes == [(1, 3), (1, 3), (1, 4), (1, 4)]


def test_sessions_number_their_episodes_on(tmp_path):
    for _ in range(2):
        recorder = Recorder(tmp_path, 10, {})
        for seed in range(3):
            recorder.begin(seed)
            recorder.step({"position": np.zeros(2)}, np.zeros(2))
        recorder.close()
    assert [e.facts["name"] for e in read_store(tmp_path)] == [f"episode-{n:06d}" for n in range(6)]


def test_a_number_that_is_lost_stops_the_robot_before_it_is_recorded(tmp_path):
    env = own_env()
    env.recorder = Recorder(tmp_path / "store", TASK.fps, {})
    env.reset(seed=0)
    env.step(np.zeros(2))
    look = env.body.robot.get_observation
    env.body.robot.get_observation = lambda: {**look(), "agent_pos.1": float("nan")}
    with pytest.raises(RobotError, match=r"agent_pos\.1 is nan"):
        env.step(np.zeros(2))
    assert env.body.stopped
    (episode,) = read_store(tmp_path / "store")
    assert np.isfinite(episode.obs["agent_pos"]).all()
    assert len(episode) == 2  # what was done before the number was lost is kept
