"""Lift: the cube's placement, altered physics, pictures, and operators that lift it."""

from collections.abc import Iterator

import numpy as np
import pytest

from postbc.errors import ConfigError, RenderingUnavailableError
from postbc.sims import Dynamics, get_task
from postbc.sims.demonstrators.recording import Episode, play
from postbc.sims.tasks.lift import SCENE
from postbc.sims.tasks.panda import PandaEnv

MAX_STEPS = 120
OPERATORS = get_task("lift").operators()


@pytest.fixture(scope="module")
def env() -> Iterator[PandaEnv]:
    env = PandaEnv(SCENE, placement=0.1)
    yield env
    env.close()


def test_the_cube_starts_anywhere_within_the_placement(env: PandaEnv):
    starts = np.array([env.reset(seed=seed)[0]["environment_state"][:2] for seed in range(200)])
    assert np.abs(starts).max() <= 0.1
    assert (starts.max(axis=0) > 0.09).all()
    assert (starts.min(axis=0) < -0.09).all()


def test_an_unreachable_placement_is_refused():
    with pytest.raises(ConfigError, match="placement"):
        get_task("lift").make(placement=0.5)


def test_the_observed_offset_belongs_to_the_new_episode(env: PandaEnv):
    observation, _ = env.reset(seed=11)
    cube, offset = observation["environment_state"][:3], observation["environment_state"][7:]
    # robosuite gives the offset in the gripper's frame: its length is what can be compared
    expected = np.linalg.norm(cube - observation["agent_pos"][:3])
    assert np.linalg.norm(offset) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_lifts_the_cube_without_slips(env: PandaEnv, name: str):
    for seed in range(2):
        operator = OPERATORS[name](np.random.default_rng(seed), 0.0)
        assert play(env, operator, Episode(name, seed), MAX_STEPS).success


def test_operators_with_slips_still_succeed_and_differ(env: PandaEnv):
    episodes = []
    for k, name in enumerate(sorted(OPERATORS)):
        operator = OPERATORS[name](np.random.default_rng(k), 1.0)
        episodes.append(play(env, operator, Episode(name, 2), MAX_STEPS))
    assert sum(episode.success for episode in episodes) >= len(episodes) - 1
    assert len({np.stack(episode.actions[:10]).tobytes() for episode in episodes}) == len(episodes)
    assert all(np.abs(action).max() <= 1 for episode in episodes for action in episode.actions)


def test_the_last_step_alone_is_rewarded(env: PandaEnv):
    episode = play(env, OPERATORS["steady"](np.random.default_rng(0), 0.0), Episode("steady", 0), MAX_STEPS)
    assert episode.rewards == [0.0] * (len(episode) - 1) + [1.0]
    assert len(episode.obs) == len(episode.states) == len(episode.actions)


def test_a_slippery_or_heavy_cube_is_not_lifted_as_the_normal_one_is():
    def cube(dynamics: Dynamics) -> np.ndarray:
        twin = get_task("lift").make(dynamics, placement=0.1)
        operator = OPERATORS["steady"](np.random.default_rng(0), 0.0)
        return play(twin, operator, Episode("steady", 0), 60).states[-1]

    normal, slippery, heavy = cube(Dynamics()), cube(Dynamics(friction=0.02)), cube(Dynamics(mass=20))
    assert not np.allclose(normal, slippery)
    assert not np.allclose(normal, heavy)


def test_pictures_show_the_scene(env: PandaEnv):
    env.reset(seed=0)
    try:
        frame = env.render()
    except RenderingUnavailableError as error:
        assert "libegl1" in str(error)
        pytest.skip("no OpenGL here")
    assert (frame.shape, frame.dtype) == ((256, 256, 3), np.uint8)
    assert frame.std() > 10


def test_without_opengl_the_package_to_install_is_named(env: PandaEnv, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("postbc.sims.rendering._loadable", lambda backend: False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(env, "_camera", None)
    with pytest.raises(RenderingUnavailableError, match="libegl1"):
        env.render()
