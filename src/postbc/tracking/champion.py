"""Which version of a model is the champion.

Policies of one name are compared by the lower end of their Wilson interval: among equal numbers of
episodes that is the order of their success, and a lucky short evaluation does not beat a long one. They are
compared on the robot (or its twin) when each of them has a result there, else in simulation; a tie goes to
fewer finetuning steps, then to the newer version.
"""

from dataclasses import dataclass

from postbc.reporting.results import Evaluation, Result

_IN_SIMULATION = {"pretrained": "pretrained", "finetuned_sim": "finetuned_sim"}
_ON_ROBOT = {
    "pretrained": "pretrained_on_robot",
    "finetuned_sim": "finetuned_sim_on_robot",
    "finetuned_robot": "finetuned_robot",
}
PLACES = {"robot": _ON_ROBOT, "simulator": _IN_SIMULATION}  # the place that decides comes first


@dataclass(frozen=True)
class Standing:
    """A version with the lower ends of its intervals, by place, and the finetuning steps spent on it."""

    version: int
    low: dict[str, float]
    env_steps: int


def results_of(evaluation: Evaluation, life: str, method: str) -> dict[str, Result]:
    """Place (robot, simulator) → the result there of a policy of this life and method, where it has one."""
    keys = {place: lives.get(life, "") for place, lives in PLACES.items()}
    found = {place: evaluation.results.get(key, {}).get(method) for place, key in keys.items()}
    return {place: result for place, result in found.items() if result is not None}


def champion(standings: list[Standing]) -> int | None:
    """The version that leads, or None when none was evaluated."""
    place = "robot" if standings and all("robot" in s.low for s in standings) else "simulator"
    compared = [s for s in standings if place in s.low]
    if not compared:
        return None
    return max(compared, key=lambda s: (s.low[place], -s.env_steps, s.version)).version
