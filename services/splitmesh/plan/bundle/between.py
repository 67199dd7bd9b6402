"""Owns the operating points between measured levels of a codec whose knob is continuous. Measures nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from splitmesh.codec.registry import CODECS
from splitmesh.plan.bundle.schema import RateRow
from splitmesh.plan.rate_curve import RateCurve
from splitmesh.policy.point import OperatingPoint

RATIO: Final = 1.3
"""Of bytes from one level to the next: a thin link has room for the one and not for the other."""


def between(
    points: Iterable[OperatingPoint], rows: Sequence[RateRow], *, ratio: float = RATIO
) -> list[OperatingPoint]:
    """Points at further levels between those of `points`, of one codec at one cut, that are more than `ratio` apart.

    What they send and keep follows from the plan's `rows` (`plan.rate_curve`), their times from their neighbours'.
    """
    alike: dict[tuple[str, str, str], list[OperatingPoint]] = {}
    for point in points:
        if point.codec and not CODECS[point.codec].levels:
            alike.setdefault((point.cut, point.codec, point.variant), []).append(point)
    found: list[OperatingPoint] = []
    for (cut, codec, variant), mine in alike.items():
        curve = RateCurve.of(rows, cut=cut, codec=codec, variant=variant)
        if curve is not None:
            for low, high in pairwise(sorted(mine, key=lambda p: p.level)):
                found += (_at(level, low, high, curve) for level in _levels(low, high, ratio))
    return found


def _levels(low: OperatingPoint, high: OperatingPoint, ratio: float) -> list[int]:
    """As evenly as integers allow, without both ends."""
    apart = abs(math.log(max(high.payload_bytes, 1.0) / max(low.payload_bytes, 1.0)))
    steps = min(math.ceil(apart / math.log(ratio)), high.level - low.level)
    spread = np.rint(np.linspace(low.level, high.level, max(steps, 1) + 1)).astype(int).tolist()
    return sorted(set(spread) - {low.level, high.level})


def _at(level: int, low: OperatingPoint, high: OperatingPoint, curve: RateCurve) -> OperatingPoint:
    rate = curve.at(level)
    share = (level - low.level) / (high.level - low.level)
    return replace(
        low,
        name=f"{low.name.rpartition('-')[0]}-{level}",
        level=level,
        fidelity=rate.fidelity,
        payload_bytes=rate.payload_bytes,
        key_bytes=rate.key_bytes,
        encode_ms=low.encode_ms + share * (high.encode_ms - low.encode_ms),
        decode_ms=low.decode_ms + share * (high.decode_ms - low.decode_ms),
    )
