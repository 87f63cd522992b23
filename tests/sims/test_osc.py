"""The compiled controller steps exactly as robosuite's own does, and is not used where it would not."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postbc.errors import SimulatorWarning
from postbc.sims.tasks import can, lift, panda, square
from postbc.sims.tasks.panda import PandaEnv

STEPS = 60
CLOSE = 1e-8  # metres and radians


@pytest.fixture(scope="module", params=[lift.SCENE, can.SCENE, square.SCENE], ids=lambda scene: scene.suite)
def pair(request: pytest.FixtureRequest) -> tuple[PandaEnv, PandaEnv]:
    return PandaEnv(request.param, compiled=False), PandaEnv(request.param)


def positions(env: PandaEnv) -> np.ndarray:
    return np.array(env._simulation.sim.data.qpos)


def copy_state(source: PandaEnv, target: PandaEnv) -> None:
    """Physics only: gripper command and posture are the same already, since the two saw the same actions."""
    import mujoco  # not before the environments have chosen how to draw

    (model, data), (other_model, other) = (
        (env._simulation.sim.model._model, env._simulation.sim.data._data) for env in (source, target)
    )
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_setState(other_model, other, state, mujoco.mjtState.mjSTATE_INTEGRATION)


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 2**31 - 1), seed=st.integers(0, 2**31 - 1))
def test_random_control_steps_are_robosuites_own(pair, start: int, seed: int):
    stock, ours = pair
    actions = np.random.default_rng(seed).uniform(-1, 1, (STEPS, 7))
    for env in pair:
        env.reset(seed=start)
    apart = []
    for action in actions:
        a, b = stock.step(action)[0], ours.step(action)[0]
        apart.append(np.abs(positions(stock) - positions(ours)).max())
        if apart[-1] < CLOSE:
            np.testing.assert_allclose(a["agent_pos"], b["agent_pos"], atol=1e-6)
            np.testing.assert_allclose(a["environment_state"], b["environment_state"], atol=1e-6)
        copy_state(stock, ours)
    # MuJoCo's contacts are discontinuous: a step that crosses one amplifies the last bit, as it does between two
    # runs of robosuite itself whose starts differ by one bit. Such steps are rare.
    assert np.mean(np.array(apart) < CLOSE) >= 0.97
    assert np.median(apart) < 1e-14


def test_another_robosuite_steps_by_itself_and_says_so(monkeypatch: pytest.MonkeyPatch):
    panda._refuse.cache_clear()
    monkeypatch.setattr(panda.metadata, "version", lambda name: "9.9.9")
    with pytest.warns(SimulatorWarning, match="9.9.9"):
        env = PandaEnv(lift.SCENE)
    assert not env.compiled
    env.reset(seed=0)
    assert env.observation_space.contains(env.step(env.idle_action())[0])
    panda._refuse.cache_clear()


def test_another_controller_is_not_replaced(pair, monkeypatch: pytest.MonkeyPatch):
    _, ours = pair
    arm = ours._simulation.robots[0].part_controllers["right"]
    assert panda._copied(ours._simulation)
    monkeypatch.setattr(arm, "impedance_mode", "variable")
    panda._refuse.cache_clear()
    with pytest.warns(SimulatorWarning, match="impedance_mode = 'variable'"):
        assert not panda._copied(ours._simulation)
    panda._refuse.cache_clear()
