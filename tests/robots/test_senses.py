"""An arm that does not follow, or a camera that stands still, stops the robot."""

import time
from dataclasses import replace

import numpy as np
import pytest
from arm import LIMITS, Arm, arm_behind

from postbc.config.robot import GuardConfig
from postbc.errors import RobotError
from postbc.robots.senses import Senses


class Seeing(Arm):
    """An arm with a camera."""

    def __init__(self):
        super().__init__()
        self.observation_features = {**self.action_features, "top": (2, 2, 3)}
        self.picture = np.zeros((2, 2, 3), np.uint8)

    def get_observation(self):
        return {"elbow.pos": self.at, "top": self.picture}


def test_an_arm_that_does_not_follow_is_stopped_where_it_is():
    safe = arm_behind(replace(LIMITS, max_lead=[12.0]))
    safe.begin()
    for _ in range(2):  # a hand holds it at 10
        safe.act(np.array([90.0]))
        safe.observe()
        time.sleep(0.06)  # of a control period of 0.1 s
    safe.act(np.array([90.0]))
    with pytest.raises(RobotError, match=r"elbow.pos is 15 away.*max_lead is 12"):
        safe.observe()
    assert safe.robot.told == [15.0, 20.0, 25.0, 10.0, "off, torque on"]


def test_between_episodes_a_person_may_move_the_arm():
    safe = arm_behind(replace(LIMITS, max_lead=[12.0]))
    safe.begin()
    safe.act(np.array([15.0]))
    safe.rest()
    safe.robot.at = 80.0
    assert safe.observe() == {"elbow.pos": 80.0}
    safe.begin()
    assert safe.act(np.array([90.0])) == [85.0]


@pytest.mark.parametrize(
    ("moving", "changing", "stops"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_camera_that_stands_still_while_the_arm_moves_is_noticed(moving, changing, stops):
    safe = arm_behind(LIMITS, Seeing())  # 10 Hz
    safe.begin()
    safe.observe()
    for step in range(1, 10):
        safe.robot.at += moving
        safe.robot.picture = np.full((2, 2, 3), changing * step, np.uint8)
        safe.observe()
    safe.robot.at += moving
    if not stops:
        safe.observe()
        return
    with pytest.raises(RobotError, match="camera top gives the same picture"):
        safe.observe()
    assert safe.robot.told[-1] == "off, torque on"


def test_a_velocity_leads_nowhere_and_a_base_that_drives_sees_it():
    limits = GuardConfig([-1.0], [1.0], max_step=[1.0], max_lead=[0.1])
    senses = Senses(limits, ["x.vel"], np.array([True]), (np.array([1.0]), 0.5))
    still, fast, here = np.array([0.0]), np.array([0.8]), np.array([0.0])
    picture = {"front": np.zeros((2, 2, 3), np.uint8)}
    for _ in range(9):
        senses.check(still, here, picture)
    senses.begin()
    senses.check(fast, here, picture)
    senses.check(fast, here, picture)
    with pytest.raises(RobotError, match="camera front"):
        senses.check(fast, here, picture)
