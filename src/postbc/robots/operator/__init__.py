"""Who stands beside the robot: resets the scene, says how an episode ended, takes the arm over, stops everything.

A simulator does it itself; a person does it at a terminal, on a page, or both, with or without checks that tell success.
"""

from typing import Any

from postbc.config.robot import OperatorConfig
from postbc.robots.operator.checks import Check, Checks, Ranges, make_checks
from postbc.robots.operator.contract import Fact, Operator, Verdict
from postbc.robots.operator.person import PersonOperator
from postbc.robots.operator.scripted import ScriptedOperator
from postbc.robots.operator.teleop import Teleop, make_teleop

__all__ = [
    "Check",
    "Checks",
    "Fact",
    "Operator",
    "PersonOperator",
    "Ranges",
    "ScriptedOperator",
    "Teleop",
    "Verdict",
    "make_checks",
    "make_operator",
    "make_teleop",
]


def make_operator(robot: Any, config: OperatorConfig, simulated: bool) -> Operator:
    """The operator that params.yaml describes, for a LeRobot robot that need not be connected.

    Raises ConfigError for checks or a teleoperator that do not fit the robot, RobotError where a person is needed and none can
    be reached.
    """
    checks = make_checks(config, robot.observation_features)
    if simulated:
        return ScriptedOperator(robot, checks)
    return PersonOperator(config, checks, make_teleop(config.teleop, robot.action_features))
