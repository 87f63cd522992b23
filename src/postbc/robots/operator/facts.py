"""What the control loop shows, in words for a person."""

import math
from collections.abc import Mapping

from postbc.robots.operator.contract import Fact

_UNITS = {"ms": "ms", "s": "s", "hz": "Hz"}


def spoken(facts: Mapping[str, Fact]) -> list[list[str]]:
    """Facts as [what, value] for reading: a rate in [0, 1] as a percentage, units at the end of a name behind the number."""
    return [[*_spoken(name, value)] for name, value in facts.items()]


def _spoken(name: str, value: Fact) -> tuple[str, str]:
    words = name.replace("_", " ").split()
    if isinstance(value, str | bool):
        return " ".join(words), str(value)
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    if unit:
        words = words[:-1]
    if not math.isfinite(value):
        return " ".join(words), "–"
    if words[-1:] == ["rate"] and isinstance(value, float):
        return " ".join(words), f"{value:.0%}"
    number = f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
    return " ".join(words), f"{number} {unit}" if unit else number
