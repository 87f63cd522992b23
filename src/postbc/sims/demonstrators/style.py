"""How people at the controls differ: in their ways, haste and slips."""

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Style:
    """One operator's habits. Lengths in metres; ``scale`` multiplies everything from ``tremor`` on."""

    hover: float = 0.08  # height above the object before going down
    side: float = 0.0  # start the descent this far away, across the fingers, and slide in
    high: float = 0.0  # cross the table at this height above the object before anything else; 0 goes straight
    quarter: int = 0  # quarter turns of yaw added to the nearest alignment
    late_yaw: bool = False  # turn the hand only when close
    pace: float = 0.8  # largest position command
    lag: float = 0.3  # share of the last command kept
    settle: int = 6  # steps the fingers close before rising
    tremor: float = 0.05  # white noise of commands
    drift: float = 0.08  # slow error of commands
    overshoot: float = 0.2  # probability to go past the hover point and come back
    miss: float = 0.15  # probability to close beside the object first
    pause: float = 0.2  # probability to stop for a while
    wander: float = 0.15  # probability to start in some other direction

    def scaled(self, scale: float) -> "Style":
        """The same habits with every imperfection multiplied; probabilities stay below 0.95."""
        odds = {name: min(0.95, scale * getattr(self, name)) for name in ("overshoot", "miss", "pause", "wander")}
        return replace(self, tremor=scale * self.tremor, drift=scale * self.drift, **odds)


POOL: Final = {
    "steady": Style(tremor=0.03, drift=0.06, overshoot=0.1, miss=0.08),
    "hasty": Style(hover=0.04, pace=1.0, lag=0.1, settle=4, drift=0.12, overshoot=0.5, miss=0.25, pause=0.05),
    "careful": Style(hover=0.06, high=0.15, pace=0.5, lag=0.5, settle=9, pause=0.5, miss=0.05, overshoot=0.1),
    "sideways": Style(hover=0.03, side=0.09, pace=0.7, tremor=0.04, overshoot=0.15),
    "roundabout": Style(hover=0.10, late_yaw=True, pace=0.8, lag=0.5, drift=0.12, wander=0.7, pause=0.3),
    "turner": Style(hover=0.07, quarter=1, pace=0.7, tremor=0.07, miss=0.3, wander=0.1),
}
