"""Which of a robot's features are the numbers that a policy reads and commands, and in which units the robot has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from postbc.config.robot import RobotConfig
from postbc.errors import ConfigError, MismatchError
from postbc.features import Feature, factor


@dataclass(frozen=True)
class Channels:
    """``features`` of a robot, in the policy's order; a number of the robot times ``scale`` is the policy's."""

    features: tuple[str, ...]
    scale: Float[ndarray, "N"]
    units: tuple[str, ...]  # the policy's, "" where it has none
    own: tuple[str, ...]  # the robot's, "" where it is not said

    def lines(self, what: str) -> list[str]:
        """For a person: which feature is which number, in which unit of the policy's."""
        parts = zip(self.features, self.scale, self.units, strict=True)
        return [
            f"  {what}[{i}] = {name}{'' if s == 1 else f' × {s:.6g}'} {unit}".rstrip()
            for i, (name, s, unit) in enumerate(parts)
        ]

    def read(self, raw: Mapping[str, Any]) -> Float[ndarray, "N"]:
        """The policy's numbers, of what the robot says."""
        numbers: ndarray = np.array([raw[name] for name in self.features], float)
        return numbers * self.scale  # type: ignore[no-any-return]


def _chosen(section: str, chosen: Any) -> dict[str, tuple[str, str]]:
    """The policy's name → the robot's feature and its unit, "" where it is not said. Raises ConfigError for anything else."""
    if isinstance(chosen, Mapping):
        named = {str(name): str(entry).split() for name, entry in chosen.items()}
    elif isinstance(chosen, Sequence) and not isinstance(chosen, str):
        entries = [str(entry).split() for entry in chosen]
        named = {entry[0]: entry for entry in entries if entry}
        if len(named) != len(entries):
            raise ConfigError(f"finetune_robot.robot.{section} names a feature twice or not at all: {chosen}.")
    else:
        raise ConfigError(f"finetune_robot.robot.{section} = {chosen!r}: expected features in order, or name: feature.")
    if any(len(entry) not in (1, 2) for entry in named.values()):
        raise ConfigError(
            f"finetune_robot.robot.{section}: a feature is written `elbow_flex.pos` or `elbow_flex.pos deg`."
        )
    return {name: (entry[0], entry[1] if len(entry) == 2 else "") for name, entry in named.items()}


@dataclass(frozen=True)
class Robot:
    """What a robot offers to a section: the features ``known``; one that ``speaks`` has the policy's units, as a twin does."""

    known: Sequence[str]
    speaks: bool = True


def match(section: str, chosen: Any, wanted: Sequence[Feature] | None, robot: Robot, prefix: str) -> Channels:
    """The channels of ``section`` of finetune_robot.robot.

    ``wanted`` are the policy's numbers, None where they have no names. Without a choice
    those that the policy names, or all that begin with ``prefix``. Raises ConfigError for features that the robot has not,
    MismatchError where names, their order or units are not the policy's, or where a unit is not said that matters.
    """
    known = robot.known
    if chosen is None:
        names = [name for name in known if name.startswith(prefix)] if wanted is None else [one.name for one in wanted]
        picked = {name: (name, "") for name in names}
    else:
        picked = _chosen(section, chosen)
    missing = [feature for feature, _ in picked.values() if feature not in known]
    if missing:
        raise ConfigError(
            f"finetune_robot.robot.{section} asks for {', '.join(missing)}; the robot has {', '.join(known) or 'nothing'}."
        )
    if wanted is not None and [one.name for one in wanted] != list(picked):
        raise MismatchError(
            f"finetune_robot.robot.{section} gives {', '.join(picked) or 'nothing'}; the policy was trained on "
            f"{', '.join(one.name for one in wanted) or 'nothing'}, in this order. Other names: write name: feature."
        )
    units = [one.unit for one in wanted] if wanted is not None else [""] * len(picked)
    silent = [name for (name, (_, unit)), own in zip(picked.items(), units, strict=True) if own and not unit]
    if silent and not robot.speaks:
        raise MismatchError(
            f"finetune_robot.robot.{section}: in which unit does the robot have {', '.join(silent)}? The policy was trained on "
            f"{', '.join(dict.fromkeys(units))}; write for instance `{silent[0]} {units[list(picked).index(silent[0])]}`."
        )
    scale = [factor(unit, own) if unit else 1.0 for (_, unit), own in zip(picked.values(), units, strict=True)]
    said = tuple(unit or (own if robot.speaks else "") for (_, unit), own in zip(picked.values(), units, strict=True))
    return Channels(tuple(feature for feature, _ in picked.values()), np.array(scale, float), tuple(units), said)


def require_agreement(parts: Sequence[Channels], config: RobotConfig) -> None:
    """Raise ConfigError where ``config`` says of the same numbers of the robot that they are in one unit and in another."""
    units: dict[str, str] = {}
    for feature, unit in ((f, u) for part in parts for f, u in zip(part.features, part.own, strict=True) if u):
        if units.setdefault(feature, unit) != unit:
            raise ConfigError(f"finetune_robot.robot: {feature} is said to be in {units[feature]} and in {unit}.")
    if box := config.guard.workspace:
        other = "rad" if box.degrees else "deg"
        if wrong := [name for name in box.joints if units.get(name) == other]:
            raise ConfigError(
                f"finetune_robot.robot.guard.workspace.degrees = {box.degrees}, and robot.action has {wrong[0]} in {other}."
            )
    degrees, leader = (options.get("use_degrees") for options in (config.options, config.operator.teleop.options))
    if degrees is False and "deg" in units.values():
        raise ConfigError(
            "finetune_robot.robot.options.use_degrees is false, and robot.state or robot.action says deg."
        )
    if None not in (degrees, leader) and degrees != leader:  # where they are not said, LeRobot's drivers differ
        raise ConfigError("finetune_robot.robot: use_degrees differs between options and operator.teleop.options.")
