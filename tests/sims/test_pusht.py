"""PushT: recorded poses are placed and turned into keypoints as gym-pusht has them; altered physics show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postbc.sims import Dynamics, get_task
from postbc.sims.tasks.pusht import PushTEnv, keypoints

POSES = st.tuples(st.floats(120, 390), st.floats(120, 390), st.floats(0, 6.28))


@pytest.fixture(scope="module")
def env() -> PushTEnv:
    return PushTEnv()


def push(dynamics: Dynamics) -> np.ndarray:
    """Where the block ends when the disc runs into one arm of it."""
    env = get_task("pusht").make(dynamics)
    env.reset(seed=0)
    env.place(np.array([200.0, 100.0, 256.0, 256.0, 0.3]))
    for _ in range(8):
        env.step(np.array([230.0, 330.0]))
    return env.simulator_state()[2:]


@given(pose=POSES)
@settings(max_examples=30)
def test_keypoints_equal_the_environments(env: PushTEnv, pose: tuple[float, float, float]):
    env.reset(seed=0)
    env.place(np.array([60.0, 60.0, *pose]))
    seen = env.observe()["environment_state"]
    computed = keypoints(env.simulator_state()[2:])
    np.testing.assert_allclose(computed, seen, atol=1e-4)


def test_a_recorded_pose_is_restored_exactly(env: PushTEnv):
    pose = np.array([60.0, 70.0, 250.0, 260.0, 2.5])
    env.reset(seed=0)
    env.place(pose)
    np.testing.assert_allclose(env.simulator_state(), pose, atol=1e-9)


def test_covering_the_goal_is_success_and_ends_the_episode(env: PushTEnv):
    env.reset(seed=0)
    env.place(np.array([60.0, 60.0, 256.0, 256.0, np.pi / 4]))
    _, reward, terminated, truncated, info = env.step(np.array([60.0, 60.0]))
    assert (reward, terminated, truncated, info) == (1.0, True, False, {"is_success": True})


def test_mass_friction_and_grip_change_where_the_block_ends():
    ends = [push(d) for d in (Dynamics(), Dynamics(mass=4), Dynamics(friction=0.3), Dynamics(friction=2))]
    for k, end in enumerate(ends):
        for other in ends[:k]:
            assert np.abs(end - other).max() > 0.05


def test_pictures_are_square(env: PushTEnv):
    env.reset(seed=0)
    assert env.render().shape == (256, 256, 3)
    assert env.render().dtype == np.uint8
