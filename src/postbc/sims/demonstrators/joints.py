"""Scripted operators of an arm that is commanded by joint targets, as by a leader arm.

What a :class:`~postbc.sims.demonstrators.hand.ArmOperator` asks of the tool becomes a twist, and the twist an increment of
the joint targets. Whoever leads sees where the arm is, not where it was told to be, so targets run ahead of the joints by
what the arm's weight and what it touches need, and by no more than SLACK.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from postbc.sims.demonstrators.hand import ArmOperator
from postbc.sims.kinematics import Kinematics
from postbc.sims.task import Array

METRES: Final = 0.009  # that the tool moves in a control step under a command of 1
RADIANS: Final = 0.08
SLACK: Final = 15.0  # degrees between joints and their targets


@dataclass(frozen=True)
class Lead:
    """How an arm of J joints and a gripper is led."""

    kinematics: Kinematics  # of the J joints
    low: tuple[float, ...]  # (J,) degrees, then the gripper's %
    high: tuple[float, ...]
    opened: float  # % at which an open gripper is held
    closed: float = 0.0
    speed: float = 8.0  # % a control step


class JointOperator:
    """One person at the leader arm for one episode; reads ``joints`` (J + 1,), degrees and %, beside what their job needs."""

    def __init__(self, person: ArmOperator, lead: Lead) -> None:
        self._person, self._lead = person, lead
        self._targets: Array | None = None

    def act(self, record: Mapping[str, Array]) -> Array:
        """The next joint targets (J + 1,), degrees and %, float32."""
        lead, joints = self._lead, np.asarray(record["joints"], np.float64)
        wish = np.asarray(self._person.act(record), np.float64)
        targets = joints if self._targets is None else self._targets
        twist = wish[:6] * np.repeat((METRES, RADIANS), 3)
        motion = np.rad2deg(lead.kinematics.follow(np.deg2rad(joints[:-1]), twist))
        arm = np.clip(targets[:-1] + motion, joints[:-1] - SLACK, joints[:-1] + SLACK)
        grip = lead.closed if wish[6] > 0 else lead.opened
        gripper = targets[-1] + np.clip(grip - targets[-1], -lead.speed, lead.speed)
        self._targets = np.clip(np.append(arm, gripper), lead.low, lead.high)
        return self._targets.astype(np.float32)
