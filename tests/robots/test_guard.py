import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from postbc.config import GuardConfig
from postbc.errors import RobotError, UnsafeActionError
from postbc.robots.guard import Guard, limits_fingerprint

LIMITS = GuardConfig([-1.0, 0.0], [1.0, 2.0], [0.5, 2.0])
anything = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
shapes = st.sampled_from([(2,), (1,), (3,), (2, 2), ()])


@given(st.lists(shapes.flatmap(lambda s: arrays(np.float64, s, elements=anything)), max_size=8))
def test_whatever_comes_only_safe_actions_leave(actions):
    guard, last = Guard(LIMITS), None
    for action in actions:
        try:
            sent = guard.check(action)
        except UnsafeActionError:
            continue
        assert np.isfinite(sent).all()
        assert sent.shape == (2,)
        assert (sent >= guard.low).all()
        assert (sent <= guard.high).all()
        if last is not None:
            assert (np.abs(sent - last) <= guard.max_step + 1e-12).all()
        last = sent


@given(arrays(np.float64, (2,), elements=st.floats(0, 1)))
def test_a_safe_action_passes_unchanged(action):
    assert np.array_equal(Guard(LIMITS).check(action), action)


def test_rounding_beyond_a_limit_is_cut_off_and_more_is_refused():
    guard = Guard(GuardConfig([-1.0], [1.0]))
    assert guard.check(np.array([np.float32(1) + 1e-6]))[0] == 1
    with pytest.raises(UnsafeActionError, match=r"action\[0\] = 1.01"):
        guard.check(np.array([1.01]))


def test_an_episode_begins_without_a_last_action():
    guard = Guard(LIMITS)
    assert guard.check(np.array([-1.0, 0.0]))[0] == -1
    assert guard.check(np.array([1.0, 0.0]))[0] == -0.5
    guard.reset()
    assert guard.check(np.array([1.0, 0.0]))[0] == 1


@pytest.mark.parametrize(
    "limits",
    [
        GuardConfig(),
        GuardConfig([0.0], None),
        GuardConfig([1.0], [0.0]),
        GuardConfig([0.0], [np.nan]),
        GuardConfig([0.0], [1.0], [0.0]),
        GuardConfig([0.0], [1.0], [1.0, 1.0]),
    ],
)
def test_without_proper_limits_nothing_moves(limits):
    with pytest.raises(RobotError, match="guard"):
        Guard(limits)


def test_the_fingerprint_changes_with_the_limits():
    assert limits_fingerprint(LIMITS) != limits_fingerprint(GuardConfig([-1.0, 0.0], [1.0, 2.0]))
