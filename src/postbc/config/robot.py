"""The robot: which one, its limits, the person beside it."""

import math
from dataclasses import dataclass, field
from typing import Any

from postbc.config.sections import require

SIMULATED = "postbc_twin"  # the type of a robot that is


@dataclass(frozen=True)
class WorkspaceConfig:
    """A box in which a point of a joint-space arm must stay, wherever its joints are commanded to."""

    model: str = "so101"  # the arm as MJCF: a file, or so101 for the one that comes with the project
    site: str = "gripper"  # of the model: the point
    joints: list[str] = field(
        default_factory=list
    )  # action features that are the model's joints; [elbow.pos: joint elbow]
    degrees: bool = True  # whether those are in degrees, else radians
    low: list[float] = field(default_factory=list)  # x, y, z in metres, in the model's frame; below high
    high: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        ordered = len(self.low) == len(self.high) == 3 and all(a < b for a, b in zip(self.low, self.high, strict=True))
        require(self, joints=bool(self.joints), low=ordered)


@dataclass(frozen=True)
class GuardConfig:
    """Limits that every action meets before a robot does; there are no defaults for hardware."""

    low: list[float] | None = None  # per action dimension, in the order of robot.action and the robot's units
    high: list[float] | None = None
    max_step: list[float] | None = None  # largest change from one action to the next
    max_speed: list[float] | None = None  # likewise, a second
    workspace: WorkspaceConfig | None = None
    heartbeat: float = 0.3  # seconds without a word from the control loop after which the robot is stopped
    on_stop: str = "hold"  # hold: stay where it is, powered; release: power off, where the robot can
    max_lead: list[float] | None = None  # farthest that an action may be from where the arm is said to be; null: any

    def __post_init__(self) -> None:
        require(
            self,
            high=self.low is None or self.high is None or len(self.low) == len(self.high),
            max_lead=self.max_lead is None or all(lead > 0 for lead in self.max_lead),
            heartbeat=0 < self.heartbeat < math.inf,
            on_stop=self.on_stop in ("hold", "release"),
        )


@dataclass(frozen=True)
class TeleopConfig:
    """The device by which a person takes the arm over; none by default."""

    type: str | None = None  # the LeRobot name of the teleoperator, e.g. so101_leader; null: nobody takes over
    options: dict[str, Any] = field(default_factory=dict)  # fields of that teleoperator's own LeRobot configuration

    def __post_init__(self) -> None:
        require(self, options=self.type is not None or not self.options)


def _range(bounds: object) -> bool:
    """Whether ``bounds`` is [low, high], finite, one of them possibly None, low < high."""
    if not isinstance(bounds, list) or len(bounds) != 2:
        return False
    stated = [bound for bound in bounds if bound is not None]
    numbers = all(isinstance(b, int | float) and not isinstance(b, bool) and math.isfinite(b) for b in stated)
    return bool(stated) and numbers and stated == sorted(set(stated))


@dataclass(frozen=True)
class OperatorConfig:
    """How a person beside a robot is asked and answers, and what else may say that the task is done."""

    instructions: str = "Put everything back to where an episode starts, and step back."  # shown at every reset
    reset_timeout: float = 300.0  # s that a reset may take; then the run ends with an error
    page_port: int | None = 8642  # of the operator's page on 127.0.0.1; 0: any free port; null: no page
    absent_after: float = 5.0  # s without the page after which a running episode stops, where there is no terminal
    success_when: dict[str, Any] = field(
        default_factory=dict
    )  # feature: [low, high], low < high, null where a side is open
    success_hold: int = 3  # consecutive control steps for which a check must say success
    reward_classifier: str | None = None  # folder of a LeRobot reward classifier that says success
    reward_threshold: float = 0.5  # probability of success that it must exceed
    teleop: TeleopConfig = field(default_factory=TeleopConfig)

    def __post_init__(self) -> None:
        require(
            self,
            reset_timeout=0 < self.reset_timeout < math.inf,
            page_port=self.page_port is None or 0 <= self.page_port < 65536,
            absent_after=1 <= self.absent_after < math.inf,  # the page asks twice a second
            success_when=all(isinstance(n, str) and _range(bounds) for n, bounds in self.success_when.items()),
            success_hold=self.success_hold > 0,
            reward_threshold=0 < self.reward_threshold < 1,
        )


@dataclass(frozen=True)
class RobotConfig:
    """Which LeRobot robot, behind which limits."""

    type: str = "postbc_twin"  # the LeRobot name of the robot; postbc_twin is simulated
    options: dict[str, Any] = field(default_factory=dict)  # fields of that robot's own LeRobot configuration
    state: Any = None  # the policy's state: robot features in order, or name: feature; "elbow.pos deg" names the unit
    environment_state: Any = None  # likewise; None: those that the policy names, else agent_pos.*, environment_state.*
    camera: str = "pixels"  # observation feature that is the policy's image; "" where it reads none
    action: Any = None  # likewise of the action; None: the policy's names in its order, else the robot's own
    guard: GuardConfig = field(default_factory=GuardConfig)
    clock: str = "auto"  # wall | simulated (time stands still between actions) | auto: simulated for simulated robots
    lead: int = 0  # control steps before a chunk gives way at which the next one is planned: the arm never waits for it
    execute: int | None = None  # actions of a chunk that are executed before the next one's; None: task.chunk - lead
    arm: str = "token"  # token: an operator arms it; simulated: only a simulated robot, which arms itself
    operator: OperatorConfig = field(default_factory=OperatorConfig)

    def __post_init__(self) -> None:
        require(
            self,
            clock=self.clock in ("wall", "simulated", "auto"),
            lead=self.lead >= 0,
            execute=self.execute is None or self.execute >= max(1, self.lead),
            arm=self.arm in ("token", "simulated"),
        )
