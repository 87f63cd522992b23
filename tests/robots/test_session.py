"""Chunks at a fixed rate: which action is sent when, what a transition says, and what happens when something is late."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from people import until
from sessions import TASK, TWIN, own_env, vector_of

from postbc.config.robot import GuardConfig, RobotConfig
from postbc.demos.store import read_store
from postbc.errors import ConfigError, RobotError, UnsafeActionError
from postbc.robots.clock import WallClock
from postbc.robots.operator import ScriptedOperator, Verdict
from postbc.robots.recorder import Recorder
from postbc.robots.session import Pace, RobotVector
from postbc.sims.vector import ChunkEnvs

WALL = replace(TWIN, clock="wall")


def numbered(number: int, length: int = 4) -> np.ndarray:
    """A chunk whose actions say which of which chunk they are."""
    return np.stack([np.linspace(0, 0.03, length) + number / 10, np.zeros(length)], 1)[None]


def sent(env):
    """What the robot is told, as (chunk, action) pairs; grows."""
    told, act = [], env.body.act

    def spy(action):
        told.append(tuple(int(n) for n in divmod(round(100 * action[0]), 10)))
        return act(action)

    env.body.act = spy
    return told


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        ({"lead": 0}, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]),
        ({"lead": 1}, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]),
        ({"lead": 2}, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 2), (2, 3), (3, 2)]),
        ({"lead": 0, "execute": 2}, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0)]),
        ({"lead": 1, "execute": 1}, [(0, 0), (0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)]),
    ],
)
def test_which_action_of_which_chunk_is_sent(pace, expected):
    env = own_env()
    told = sent(env)
    with vector_of(env, **pace) as vector:
        vector.reset([0])
        number = 0
        while len(told) < len(expected):
            vector.begin(numbered(number))
            vector.finish()
            number += 1
    assert told[: len(expected)] == expected


@pytest.mark.parametrize("pace", [{"lead": 3}, {"lead": 1, "execute": 4}, {"lead": 0, "execute": 5}])
def test_a_pace_that_does_not_fit_the_chunk_is_refused(pace):
    with pytest.raises(ConfigError, match="do not fit"):
        Pace.of(replace(TWIN, **pace), TASK)


def test_a_session_on_a_simulated_clock_is_what_a_simulator_plays():
    chunks = np.random.default_rng(0).uniform(-1, 1, (40, 1, 4, 2)).astype(np.float32)
    chunks[..., 0] = np.abs(chunks[..., 0])
    plain = ChunkEnvs.of(TASK).vector(1, 0.99)
    with vector_of(own_env()) as vector:
        obs = vector.reset(list(range(20))), plain.reset(list(range(20)))
        for chunk in chunks:
            assert np.array_equal(*obs)
            vector.begin(chunk)
            ours, theirs = vector.finish(), plain.step(chunk)
            for name in ("final", "reward", "terminated", "truncated", "steps", "success", "seed"):
                assert np.allclose(getattr(ours, name), getattr(theirs, name)), name
            obs = vector.ready(ours), plain.ready(theirs)
            assert vector.used == plain.used
            assert np.array_equal(vector.playing, plain.playing)
    plain.close()


class Judge(ScriptedOperator):
    """Says after some steps what is to be said."""

    def __init__(self, robot, after, verdict):
        super().__init__(robot)
        self.left, self.said = after, verdict

    def verdict(self):
        self.left -= 1
        return self.said if self.left == 0 else None

    def stopped(self):
        return self.left <= 0 and self.said is None


@pytest.mark.parametrize(("verdict", "success"), [(Verdict.SUCCESS, True), (Verdict.FAILURE, False)])
def test_the_operator_ends_an_episode(verdict, success):
    env = own_env()
    env.operator = Judge(env.body, 6, verdict)
    with vector_of(env) as vector:
        vector.reset([0, 1])
        vector.begin(numbered(0))
        vector.finish()
        vector.begin(numbered(1))
        step = vector.finish()
    assert (step.steps[0], bool(step.terminated[0]), bool(step.truncated[0])) == (2, True, False)
    assert (step.reward[0], bool(step.success[0])) == ((pytest.approx(0.99) if success else 0), success)
    assert env._successes == success  # not once more when the robot rests


class Late(ScriptedOperator):
    """Sees the success when the time limit has ended the episode, and before it is over for the operator."""

    seen = False

    def over(self):
        self.seen = True

    def verdict(self):
        return Verdict.SUCCESS if self.seen else None


def test_a_success_that_is_called_as_time_runs_out_counts(tmp_path):
    env = own_env()
    env.operator, env.recorder = Late(env.body), Recorder(tmp_path / "store", TASK.fps, {})
    with vector_of(env) as vector:
        vector.reset([0, 1])
        for _ in range(-(-TASK.max_steps // 4)):
            vector.begin(np.zeros((1, 4, 2), np.float32))
            step = vector.finish()
    env.recorder.close()
    assert (bool(step.success[0]), bool(step.terminated[0]), bool(step.truncated[0])) == (True, True, False)
    assert step.reward[0] == pytest.approx(0.99 ** (step.steps[0] - 1))
    (episode,) = read_store(tmp_path / "store")
    assert episode.success.tolist() == [False] * (len(episode) - 1) + [True]


class Helper(ScriptedOperator):
    """Takes the arm for the second chunk."""

    steps = 0

    def action(self):
        self.steps += 1
        return {"action.0": -0.9, "action.1": 0.2} if 4 < self.steps <= 8 else None


def test_what_a_person_does_is_executed_guarded_and_recorded_and_not_taken_for_the_policys(tmp_path):
    env = own_env(replace(TWIN, guard=GuardConfig([-1.0, -1.0], [1.0, 1.0], [0.5, 0.5])))
    env.operator, env.recorder = Helper(env.body), Recorder(tmp_path / "store", TASK.fps, {})
    with vector_of(env) as vector:
        vector.reset([0])
        flags = []
        for _ in range(3):
            vector.begin(np.full((1, 4, 2), 0.2))
            flags.append(vector.finish().intervened)
    env.recorder.close()
    assert flags == [False, True, False]
    (episode,) = read_store(tmp_path / "store")
    assert episode.obs["intervention"].ravel().tolist()[:12] == [0] * 4 + [1] * 4 + [0] * 4
    # by half a unit a step at most, there and back
    assert np.allclose(episode.action[:12, 0], [0.2] * 4 + [-0.3, -0.8, -0.9, -0.9, -0.4, 0.1, 0.2, 0.2])


def test_a_stop_of_the_operator_ends_the_session_with_the_robot_stopped():
    env = own_env()
    env.operator = Judge(env.body, 2, None)
    with vector_of(env) as vector:
        vector.reset([0])
        vector.begin(numbered(0))
        with pytest.raises(RobotError, match="operator stopped"):
            vector.finish()
    assert not env.body.robot.is_connected


def test_an_unsafe_action_reaches_whoever_drives_and_the_robot_is_stopped():
    env = own_env()
    with vector_of(env) as vector:
        vector.reset([0])
        vector.begin(np.full((1, 4, 2), np.nan))
        with pytest.raises(UnsafeActionError):
            vector.finish()
    assert not env.body.robot.is_connected


def test_the_arm_goes_on_while_a_plan_is_late_and_then_keeps_its_place():
    env = own_env(replace(WALL, guard=TWIN.guard))
    assert env.clock.waits is False  # a twin in this process
    env.clock = WallClock(1 / TASK.fps)
    told = sent(env)
    with vector_of(env, lead=1, execute=2) as vector:
        vector.reset([0])
        vector.begin(numbered(0))
        vector.finish()
        until(lambda: env.clock.timing.starved >= 2)  # ticks for which there was nothing left of the chunk
        vector.begin(numbered(1))
        step = vector.finish()
    assert told[:4] == [(0, 0), (0, 1), (0, 2), (0, 3)]  # beyond what was to be executed of it
    assert step.steps[0] >= 2


def test_the_wall_clock_keeps_the_rate():
    env = own_env()
    env.clock = WallClock(1 / 50)
    with vector_of(env) as vector:
        vector.reset([0])
        started = time.monotonic()
        for number in range(5):
            vector.begin(numbered(number))
            vector.finish()
        took = time.monotonic() - started
    assert took > 19 / 50  # never faster; slower only by what the machine does meanwhile
    timing = env.clock.timing.summary()
    assert timing["actions"] + timing["starved"] >= 20
    assert {"jitter_ms", "jitter_p99_ms", "overruns", "starved"} <= timing.keys()


class Seconds:
    """Time that passes when it is slept, or when a test says so."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_late_ticks_are_counted_and_never_made_up_for(monkeypatch):
    monkeypatch.setattr("postbc.robots.clock.time", seconds := Seconds())
    clock = WallClock(1.0)
    clock.start()
    seconds.now = 3.25  # the action was late
    clock.acting()
    clock.acted()
    clock.tick()
    assert (seconds.now, clock.timing.overruns) == (3.95, 0)  # the next one does not follow at once
    clock.acted()
    clock.tick()
    assert (seconds.now, clock.timing.overruns) == (4.95, 0)
    seconds.now = 8.0  # ticks at 5.95 and 6.95 were missed
    clock.tick()
    assert (seconds.now, clock.timing.overruns) == (8.0, 1)
    clock.acted()
    clock.tick()
    assert seconds.now == pytest.approx(8.95)
    assert clock.timing.late == [3.25]


def test_starts_can_be_used_up():
    with vector_of(own_env()) as vector:
        vector.reset([3])
        for number in range(8):
            vector.begin(numbered(number % 3))
            step = vector.finish()
        assert step.truncated[0]
        with pytest.raises(ConfigError, match="all 1 starts"):
            vector.ready(step)


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_a_session_can_be_closed_at_any_time(chunks):
    env = own_env()
    with vector_of(env, lead=1) as vector:
        vector.reset([0])
        for number in range(chunks):
            vector.begin(numbered(number))
            vector.finish()
    assert not vector._thread.is_alive()
    assert not env.body.robot.is_connected
    assert "control" not in {thread.name for thread in threading.enumerate()}


def test_a_session_whose_operator_can_not_be_closed_stops_the_robot_all_the_same():
    env = own_env()
    vector = RobotVector(env, Pace.of(env.config, TASK), 1, 0.99)
    vector.reset([0])
    env.operator.close = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        vector.close()
    assert not vector._thread.is_alive()
    assert not env.body.robot.is_connected


def test_a_robot_can_not_go_back():
    with vector_of(own_env()) as vector, pytest.raises(RobotError):
        vector.restore([0], vector.save())
    assert RobotConfig().lead == 0
