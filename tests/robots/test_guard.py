from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from postbc.config.robot import GuardConfig, RobotConfig, WorkspaceConfig
from postbc.errors import ConfigError, RobotError, UnsafeActionError
from postbc.robots.guard import Guard, limits_fingerprint

PERIOD = 0.1
LIMITS = GuardConfig([-1.0, 0.0], [1.0, 2.0], [0.5, 2.0])
BOX = WorkspaceConfig(joints=["a.pos"], low=[-1.0, -1.0, -1.0], high=[1.0, 0.5, 1.0])
anything = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True),
    st.sampled_from([5e-324, -5e-324, 1e308, -1e308, 1.0, -1.0, 2.0, 0.0, -0.0]),
)
shapes = st.sampled_from([(2,), (1,), (3,), (2, 2), (0,), ()])
moments = st.floats(0, 0.3)


def circle(action):
    """A point that the first number turns about the origin; the second one does not move it."""
    return np.array([np.cos(action[0]), np.sin(action[0]), 0.0])


def guard_of(config, locate=None):
    return Guard(config, PERIOD, locate)


@given(
    st.lists(st.tuples(shapes.flatmap(lambda s: arrays(np.float64, s, elements=anything)), moments), max_size=8),
    st.none() | arrays(np.float64, (2,), elements=st.floats(-0.2, 1.2)),  # a little outside, too
    st.booleans(),
)
def test_whatever_comes_only_safe_actions_leave(actions, present, boxed):
    limits = GuardConfig([-1.0, 0.0], [1.0, 2.0], [0.5, 2.0], [3.0, 30.0], BOX if boxed else None)
    guard, now, before = Guard(limits, PERIOD, circle if boxed else None), 0.0, -np.inf
    if present is not None:
        guard.begin(present)
    last = present
    for action, later in actions:
        now += later
        try:
            sent = guard.check(action, now)
        except UnsafeActionError:
            continue
        assert np.isfinite(sent).all()
        assert sent.shape == (2,)
        assert (sent >= guard.low).all()
        assert (sent <= guard.high).all()
        assert now - before >= 0.5 * PERIOD
        if boxed:
            assert circle(sent)[1] <= 0.5
        if last is not None:
            passed = min(PERIOD, 1.002 * (now - before))  # clocks round
            assert (np.abs(sent - last) <= np.minimum([0.5, 2.0], passed * np.array([3.0, 30.0])) + 1e-12).all()
        last, before = sent, now


@given(arrays(np.float64, (2,), elements=st.floats(0, 1)))
def test_a_safe_action_passes_unchanged(action):
    assert np.array_equal(guard_of(LIMITS).check(action, 0.0), action)


def test_the_order_is_finite_shape_limits_workspace_steps_rate():
    limits = GuardConfig([-2.0, 0.0], [2.0, 2.0], [0.1, 2.0], None, BOX)
    guard = Guard(limits, PERIOD, circle)
    guard.begin(np.array([0.0, 0.0]))
    guard.check(np.array([0.0, 0.0]), 1.0)
    for action, words in (
        (np.array([np.nan, 9.0, 9.0]), "not finite"),
        (np.array([9.0, 9.0, 9.0]), "has shape"),
        (np.array([9.0, 0.0]), r"action\[0\] = 9 is outside"),
        (np.array([1.5, 0.0]), "workspace"),
        (np.array([0.3, 0.0]), r"0\.0 ms after the last one; the control period is 100\.0"),
    ):
        with pytest.raises(UnsafeActionError, match=words):
            guard.check(action, 1.0)
    assert guard.check(np.array([0.3, 0.0]), 1.1)[0] == pytest.approx(0.1)


def test_rounding_beyond_a_limit_is_cut_off_and_more_is_refused():
    guard = guard_of(GuardConfig([-1.0], [1.0]))
    assert guard.check(np.array([np.float32(1) + 1e-6]), 0.0)[0] == 1
    with pytest.raises(UnsafeActionError, match=r"action\[0\] = 1.01"):
        guard.check(np.array([1.01]), 1.0)


def test_a_refused_action_changes_nothing():
    guard = guard_of(LIMITS)
    guard.check(np.array([0.0, 0.0]), 0.0)
    with pytest.raises(UnsafeActionError):
        guard.check(np.array([0.9, 9.0]), 1.0)
    assert guard.check(np.array([0.9, 0.0]), 1.0)[0] == 0.5


def test_an_episode_begins_without_a_last_action_or_from_where_the_robot_is():
    guard = guard_of(LIMITS)
    assert guard.check(np.array([-1.0, 0.0]), 0.0)[0] == -1
    assert guard.check(np.array([1.0, 0.0]), 1.0)[0] == -0.5
    guard.begin(
        np.array([np.nan, 0.0]), np.array([False, True])
    )  # where it is is not measured: it is where it was told
    assert guard.check(np.array([1.0, 0.0]), 2.0)[0] == 0
    guard.forget()
    assert guard.check(np.array([1.0, 0.0]), 3.0)[0] == 1
    guard.begin(np.array([-1.1, 0.0]))  # a little outside, as an arm at rest may be
    assert guard.check(np.array([1.0, 0.0]), 1.0)[0] == pytest.approx(-0.6)
    guard.begin(np.array([-1.1, 0.0]))
    assert guard.check(np.array([-1.0, 0.0]), 1.0)[0] == -1


@pytest.mark.parametrize(
    ("present", "words"), [([np.nan, 0.0], "not finite"), ([2.0, 0.0], r"feature 0 is at 2.*hand")]
)
def test_a_robot_that_is_somewhere_impossible_does_not_begin(present, words):
    with pytest.raises(UnsafeActionError, match=words):
        guard_of(LIMITS).begin(np.array(present))


def test_a_speed_is_a_step_in_a_control_period():
    guard = guard_of(GuardConfig([-1.0], [1.0], None, [2.0]))
    guard.check(np.array([0.0]), 0.0)
    assert guard.check(np.array([1.0]), 1.0)[0] == pytest.approx(0.2)


def test_halfway_to_a_place_inside_may_lie_outside():
    limits = GuardConfig(
        [-4.0], [4.0], [0.6], None, WorkspaceConfig(joints=["a.pos"], low=[-2.0] * 3, high=[2.0, 0.5, 2.0])
    )
    guard = Guard(limits, PERIOD, circle)
    guard.begin(np.array([0.4]))
    with pytest.raises(UnsafeActionError, match="workspace"):  # from 0.4 rad to 2.8 rad the way leads over the top
        guard.check(np.array([2.8]), 0.0)


@pytest.mark.parametrize(
    "limits",
    [
        GuardConfig(),
        GuardConfig([0.0], None),
        GuardConfig(None, [0.0]),
        GuardConfig([1.0], [0.0]),
        GuardConfig([0.0], [np.nan]),
        GuardConfig([0.0], [1.0], [0.0]),
        GuardConfig([0.0], [1.0], [1.0, 1.0]),
        GuardConfig([0.0], [1.0], None, [-1.0]),
        GuardConfig([0.0], [1.0], None, [np.inf]),
        GuardConfig([0.0], [1.0], workspace=BOX),
    ],
)
def test_without_proper_limits_nothing_moves(limits):
    with pytest.raises(RobotError, match="guard"):
        guard_of(limits)


def test_a_configuration_must_be_possible():
    with pytest.raises(ConfigError, match="high"):
        GuardConfig([0.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="low"):
        WorkspaceConfig(joints=["a.pos"], low=[0.0, 0.0, 0.0], high=[1.0, 0.0, 1.0])


def test_the_fingerprint_changes_with_the_limits():
    others = [GuardConfig([-1.0, 0.0], [1.0, 2.0]), GuardConfig([-1.0, 0.0], [1.0, 2.0], [0.5, 2.0], workspace=BOX)]
    robots = [RobotConfig(guard=limits) for limits in (LIMITS, *others)]
    robots += [replace(robots[0], clock="wall"), replace(robots[0], action=["b", "a"])]
    assert len({limits_fingerprint(one, fps) for one in robots for fps in (10, 20)}) == 10
