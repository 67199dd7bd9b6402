"""Owns the Bjøntegaard rate: how many bytes one way of coding saves against another at equal fidelity.

After G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves" (ITU-T VCEG-M33, 2001), with the
monotone piecewise-cubic interpolation that later practice put in place of one cubic (VCEG-AE07, 2006; Fritsch and
Carlson, "Monotone piecewise cubic interpolation", SIAM J. Numer. Anal. 17(2), 1980). Adapted: the axis of quality is
fidelity, and what nobody would choose, a level that costs more than another and keeps no more, is left out first,
since fidelity over few frames is noisy and need not rise with every byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.interpolate import PchipInterpolator

LOW, HIGH = 0.85, 0.99
"""Fidelities between which a saving is of interest: worse answers are no use, better ones can't be told apart."""
NARROWEST = 0.005
"""Curves that share less than this much fidelity are not compared: it would be extrapolation in all but name."""
MORE = 1e-9
"""Fidelity that a point must have above a cheaper one to count as better: less is a rounding error, no slope."""


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One level of one codec: mean bytes per frame (> 0) and fidelity, [0, 1]."""

    bytes: float
    fidelity: float


@dataclass(frozen=True, slots=True)
class BdRate:
    """The comparison of two curves."""

    percent: float | None
    """Mean difference in bytes at equal fidelity, negative: saved; None: they can't be compared."""
    over: tuple[float, float] | None
    """The fidelities over which the mean was taken."""
    reason: str = ""
    """Why there is no figure; "" if there is one."""


def frontier(points: Iterable[RatePoint]) -> list[RatePoint]:
    """The points that no other one beats, bytes and fidelity both strictly rising.

    A running maximum: the least curve that never falls and lies on or above all points, but for `MORE`.
    """
    kept: list[RatePoint] = []
    for point in sorted(points, key=lambda p: (p.bytes, -p.fidelity)):
        if not kept or point.fidelity > kept[-1].fidelity + MORE:
            kept.append(point)
    return kept


def bd_rate(
    points: Sequence[RatePoint], anchor: Sequence[RatePoint], *, low: float = LOW, high: float = HIGH
) -> BdRate:
    """100 · (exp(mean over [a, b] of ln r(f) − ln r_anchor(f)) − 1), in percent.

    r(f) are the bytes at fidelity f: PCHIP of ln bytes over the `frontier`. [a, b] are the fidelities that both
    curves reach, within [low, high]. Twice the same curve gives 0, half the bytes −50, and swapping the two gives b
    with (1 + a/100)(1 + b/100) = 1. Without a common interval there is a reason in place of a figure.
    """
    mine, theirs = frontier(points), frontier(anchor)
    if len(mine) < 2 or len(theirs) < 2:
        return BdRate(None, None, "a curve needs two levels of which one costs more and keeps more")
    start = max(mine[0].fidelity, theirs[0].fidelity, low)
    end = min(mine[-1].fidelity, theirs[-1].fidelity, high)
    if end - start < NARROWEST:
        spans = f"fidelity is {_span(mine)} here, {_span(theirs)} there"
        return BdRate(None, None, f"too little in common between {low:g} and {high:g}: {spans}")
    mean = (_log_rate(mine).integrate(start, end) - _log_rate(theirs).integrate(start, end)) / (end - start)
    return BdRate(100.0 * math.expm1(float(mean)), (start, end))


def bytes_at(points: Sequence[RatePoint], fidelity: float) -> float | None:
    """Bytes at a fidelity by the same interpolation; None where the curve does not reach it.

    Below its worst level a curve keeps more than asked for at that level's bytes: they are what it takes.
    """
    curve = frontier(points)
    if not curve or curve[-1].fidelity < fidelity:
        return None
    if curve[0].fidelity >= fidelity:
        return curve[0].bytes
    return math.exp(float(_log_rate(curve)(fidelity)))


def _log_rate(curve: Sequence[RatePoint]) -> PchipInterpolator:
    return PchipInterpolator([p.fidelity for p in curve], [math.log(p.bytes) for p in curve])


def _span(curve: Sequence[RatePoint]) -> str:
    return f"{curve[0].fidelity:.3f} … {curve[-1].fidelity:.3f}"
