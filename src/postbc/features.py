"""Names and units of the numbers that a policy reads and commands, so that a robot can be matched to it number by number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import pi
from typing import Any

from postbc.errors import MismatchError

# What one of a unit is in the SI unit of its kind; units of different kinds are never converted.
SI = {
    "rad": ("rad", 1.0),
    "deg": ("rad", pi / 180),
    "m": ("m", 1.0),
    "mm": ("m", 1e-3),
    "1": ("1", 1.0),
    "%": ("1", 1e-2),
}


@dataclass(frozen=True)
class Feature:
    """One number: ``name`` as LeRobot's robots call it (``shoulder_pan.pos``), ``unit`` a key of SI, or "" where unknown."""

    name: str
    unit: str = ""


@dataclass(frozen=True)
class Features:
    """The numbers of a policy's state (S), of what it sees of the environment (V), and of its action (A), in order."""

    state: tuple[Feature, ...]
    environment: tuple[Feature, ...]
    action: tuple[Feature, ...]

    def json(self) -> dict[str, list[list[str]]]:
        """Pairs of name and unit."""
        return {part.name: [[one.name, one.unit] for one in getattr(self, part.name)] for part in fields(self)}

    @classmethod
    def of(cls, content: Mapping[str, Sequence[Sequence[Any]]]) -> "Features":
        """Inverse of :meth:`json`."""
        return cls(**{part.name: tuple(Feature(*map(str, one)) for one in content[part.name]) for part in fields(cls)})


def factor(unit: str, wanted: str) -> float:
    """What a number in ``unit`` is multiplied with to be in ``wanted``. Raises MismatchError where that makes no sense."""
    if unit == wanted:
        return 1.0
    (kind, one), (other, target) = SI.get(unit, (unit, 0.0)), SI.get(wanted, (wanted, 0.0))
    if kind != other:
        raise MismatchError(
            f"{unit or 'no unit'!r} can not be converted to {wanted or 'no unit'!r}; known: {', '.join(SI)}."
        )
    return one / target


def size(unit: str) -> float:
    """What a radian, a metre or the whole is in ``unit``: 57.3 for "deg". 1 for a unit that is not known."""
    return 1 / SI[unit][1] if unit in SI else 1.0
