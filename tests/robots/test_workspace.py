"""A box for a point of an arm that is commanded in joints."""

import numpy as np
import pytest

from postbc.config.robot import GuardConfig, WorkspaceConfig
from postbc.errors import ConfigError, UnsafeActionError
from postbc.robots.guard import Guard
from postbc.robots.workspace import locator
from postbc.sims import get_task

NAMES = [one.name for one in get_task("so101_lift").features.action]
JOINTS = NAMES[:-1]  # the jaw does not move the point
TABLE = WorkspaceConfig(joints=JOINTS, low=[0.0, -0.3, 0.01], high=[0.5, 0.3, 0.5])
REST = np.zeros(6)


def test_the_point_is_where_the_simulator_has_it():
    env = get_task("so101_lift").make()
    env.reset(seed=0)
    model, data = env.physics()
    action = np.array([20.0, 30.0, -10.0, 40.0, 15.0, 50.0])
    locate = locator(TABLE, NAMES)
    import mujoco

    data.qpos[[model.joint(name.split(".")[0]).qposadr[0] for name in JOINTS]] = np.deg2rad(action[:5])
    mujoco.mj_kinematics(model, data)
    assert np.allclose(locate(action), data.site("gripper").xpos, atol=1e-9)


def test_the_arm_may_not_be_commanded_into_the_table():
    low, high = get_task("so101_lift").action_low, get_task("so101_lift").action_high
    guard = Guard(GuardConfig(list(low), list(high), workspace=TABLE), 1 / 30, locator(TABLE, NAMES))
    assert np.array_equal(guard.check(REST, 0.0), REST)
    with pytest.raises(UnsafeActionError, match=r"brings gripper to \[.*outside of the workspace"):
        guard.check(np.array([0.0, 80.0, 60.0, 0.0, 0.0, 0.0]), 1.0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (WorkspaceConfig(joints=["wing.pos"], low=[0.0] * 3, high=[1.0] * 3), r"wing\.pos: expected actions"),
        (WorkspaceConfig(joints=["shoulder_pan"], low=[0.0] * 3, high=[1.0] * 3), "shoulder_pan"),
        (WorkspaceConfig(joints=JOINTS, site="nose", low=[0.0] * 3, high=[1.0] * 3), "site = 'nose'"),
        (WorkspaceConfig("/no/such.xml", joints=JOINTS, low=[0.0] * 3, high=[1.0] * 3), r"no/such\.xml.*MJCF"),
    ],
)
def test_what_there_is_not_is_named(config, words):
    with pytest.raises(ConfigError, match=words):
        locator(config, NAMES)
