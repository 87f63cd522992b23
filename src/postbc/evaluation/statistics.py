"""Intervals for success rates and for differences between policies that played the same starts."""

import math
from statistics import NormalDist

from jaxtyping import Bool
from numpy import ndarray

Z = NormalDist().inv_cdf(0.975)


def wilson(successes: int, episodes: int) -> tuple[float, float]:
    """95 % Wilson score interval of a success rate (Wilson 1927); [0, 1] when nothing was played."""
    if episodes == 0:
        return 0.0, 1.0
    rate, z2 = successes / episodes, Z**2
    centre = (rate + z2 / (2 * episodes)) / (1 + z2 / episodes)
    half = Z / (1 + z2 / episodes) * math.sqrt(rate * (1 - rate) / episodes + z2 / (4 * episodes**2))
    # At 0 and at 1 the interval ends there exactly; rounding must not push it beyond.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == episodes else centre + half)


def paired_difference(a: Bool[ndarray, "N"], b: Bool[ndarray, "N"]) -> tuple[float, float, float]:
    """Mean of b − a over the same starts and its 95 % interval (Newcombe 1998, method 10, for paired proportions)."""
    n = len(a)
    rate_a, rate_b = a.mean(), b.mean()
    (low_a, high_a), (low_b, high_b) = wilson(int(a.sum()), n), wilson(int(b.sum()), n)
    phi = _phi(a, b)
    down_b, up_a = rate_b - low_b, high_a - rate_a
    up_b, down_a = high_b - rate_b, rate_a - low_a
    low = math.sqrt(max(0.0, down_b**2 - 2 * phi * down_b * up_a + up_a**2))
    high = math.sqrt(max(0.0, up_b**2 - 2 * phi * up_b * down_a + down_a**2))
    difference = float(rate_b - rate_a)
    return difference, max(-1.0, difference - low), min(1.0, difference + high)


def _phi(a: Bool[ndarray, "N"], b: Bool[ndarray, "N"]) -> float:
    """Correlation of the two outcomes, with Newcombe's continuity correction when it is positive."""
    n = len(a)
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    neither = n - both - only_a - only_b
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if product == 0:
        return 0.0
    determinant: float = both * neither - only_a * only_b
    if determinant > 0:
        determinant = max(determinant - n / 2, 0)
    return float(determinant / math.sqrt(product))
