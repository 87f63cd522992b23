"""Environments side by side play exactly what one plain environment plays: chunks, success, time limits, resets."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postbc.observation import ObsShape
from postbc.sims import Dynamics, get_task
from postbc.sims.stepping import Stepping
from postbc.sims.task import TaskEnv, maker
from postbc.sims.vector import NO_SEED, ChunkEnvs

DISCOUNT = 0.9
TASK = get_task("reach")


def command(obs: np.ndarray, chunk: int) -> np.ndarray:
    """Straight to the goal, round the disc by chance: succeeds from some starts, runs out of time from others."""
    obs = obs[-4:]
    way = obs[2:] - obs[:2] + np.array([0.0, 0.5 if obs[1] > 0 else -0.1]) * (obs[0] < 0)
    return np.tile(np.clip(way / 0.08, -1, 1), (chunk, 1))


def plainly(env: TaskEnv, seeds: list[int], chunk: int, limit: int, history: int) -> Iterator[tuple]:
    """(seed, steps, discounted reward, terminated, truncated, final observation) of every chunk."""
    for seed in seeds:
        seen, steps, over = [flat(env.reset(seed=seed)[0])] * history, 0, False
        while not over:
            total, executed = 0.0, 0
            for action in command(seen[-1], chunk):
                observation, reward, terminated, _, _ = env.step(action)
                seen.append(flat(observation))
                total += DISCOUNT**executed * reward
                executed, steps = executed + 1, steps + 1
                over = terminated or steps == limit
                if over:
                    break
            row = np.concatenate(seen[-history:]).tolist()
            yield seed, executed, pytest.approx(total), terminated, over and not terminated, row


def flat(observation: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([observation["agent_pos"], observation["environment_state"]])


@settings(max_examples=25)
@given(
    n=st.integers(1, 4),
    chunk=st.integers(1, 5),
    limit=st.integers(1, 60),
    seeds=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=7, unique=True),
    stepping=st.sampled_from([Stepping.SERIAL, Stepping.THREADS]),
    history=st.integers(1, 3),
)
def test_a_vector_is_its_environments_one_by_one(
    n: int, chunk: int, limit: int, seeds: list[int], stepping: Stepping, history: int
):
    vector = ChunkEnvs(TASK.make, chunk, limit, stepping, history).vector(n, DISCOUNT)
    played: list[list[tuple]] = [[] for _ in range(n)]
    obs = vector.reset(seeds)
    while (vector.playing != NO_SEED).any():
        step = vector.step(np.stack([command(row, chunk) for row in obs]))
        for i in np.flatnonzero(step.seed != NO_SEED):
            row = (step.seed[i], step.steps[i], step.reward[i], step.terminated[i], step.truncated[i])
            played[i].append((*(value.item() for value in row), step.final[i].tolist()))
        obs = step.obs
    vector.close()
    for i in range(n):
        assert played[i] == list(plainly(TASK.make(), seeds[i::n], chunk, limit, history))


@settings(max_examples=15)
@given(
    n=st.integers(1, 3),
    starts=st.integers(1, 9),
    before=st.integers(0, 25),
    stepping=st.sampled_from([Stepping.SERIAL, Stepping.THREADS]),
    history=st.integers(1, 2),
)
def test_a_saved_vector_goes_on_as_if_nothing_had_happened(n, starts, before, stepping, history):
    check_that_it_goes_on(n, list(range(starts)), before, stepping, history)


def test_so_does_one_of_processes():
    check_that_it_goes_on(2, list(range(5)), 9, Stepping.PROCESSES, 2)


def check_that_it_goes_on(n, seeds, before, stepping, history):
    envs = ChunkEnvs(TASK.make, 2, 30, stepping, history)
    one, other = envs.vector(n, DISCOUNT), envs.vector(n, DISCOUNT)
    obs = one.reset(seeds)
    for _ in range(before):
        obs = one.step(np.stack([command(row, 2) for row in obs])).obs
    saved = one.save()
    again = other.restore(seeds, saved)
    assert np.array_equal(again, obs)
    for _ in range(12):
        assert np.array_equal(one.playing, other.playing)
        assert one.used == other.used
        first, second = (v.step(np.stack([command(row, 2) for row in obs])) for v in (one, other))
        for name in vars(first):
            assert np.array_equal(getattr(first, name), getattr(second, name)), name
        obs = first.obs
    one.close()
    other.close()


@pytest.mark.parametrize("stepping", Stepping)
def test_a_lone_environment_plays_a_chunk_as_soon_as_it_is_begun(stepping: Stepping):
    """A robot: learning that goes on in between must not come before the actions that were chosen for what it saw."""
    played = []

    class Watched(type(TASK.make())):
        def _advance(self, action):
            played.append(action)
            return super()._advance(action)

    vector = ChunkEnvs(Watched, 3, 60, stepping).vector(1, DISCOUNT)
    obs = vector.reset([1, 2])
    vector.begin(command(obs[0], 3)[None])
    assert len(played) == 3
    vector.finish()
    assert len(played) == 3
    vector.close()


class Falling(TaskEnv):
    """An environment that ends when something falls, at step 3, as many of Gymnasium's do; rewards are negative."""

    def __init__(self, **_):
        super().__init__(ObsShape(1, 0), [-1.0], [1.0])

    def _start(self, seed):
        self._t = 0

    def observe(self):
        return {"agent_pos": np.array([self._t], np.float32), "environment_state": np.zeros(0, np.float32)}

    def _advance(self, action):
        self._t += 1
        return self.observe(), -float(self._t), self._t == 3, False, {"is_success": False}

    def idle_action(self):
        return np.zeros(1)


@pytest.mark.parametrize("latency", [0, 1])
def test_a_failure_ends_an_episode_without_success_and_the_best_reward_may_be_negative(latency):
    make = maker("falling", Falling)
    vector = ChunkEnvs(lambda **kwargs: make(Dynamics(latency=latency), **kwargs), 2, 10, Stepping.SERIAL, 1).vector(
        1, 0.9
    )
    vector.reset([0])
    steps = [vector.step(np.zeros((1, 2, 1))) for _ in range(2)]
    vector.close()
    found = [(bool(s.terminated[0]), bool(s.success[0]), bool(s.truncated[0]), int(s.steps[0])) for s in steps]
    assert found == [(False, False, False, 2), (True, False, False, 1)]
    assert [float(s.best[0]) for s in steps] == [-1.0, -1.0]
