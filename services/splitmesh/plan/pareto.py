"""Owns which operating points are worth offering: what no other beats, and the most different of those."""

from __future__ import annotations

import math
from collections.abc import Sequence

from splitmesh.policy.point import OperatingPoint

LIMIT = 24
STEP = 1.1
"""Times that differ by less than 10% are the same: timing noise must not decide what is dominated."""
_LEAST_MS = 0.05
_STREAMS_APART = 1.0
"""What else lies between two codecs with a memory: levels of the one at hand are what a thin link is met with."""


def pareto(points: Sequence[OperatingPoint], *, limit: int = LIMIT) -> list[OperatingPoint]:
    """Points that no other beats in edge time, cloud time, bytes and fidelity at once; the most different `limit`.

    Cloud time counts too, because a late cut is what a slow worker, or a resume close to the deadline, needs. A codec
    with a memory betters only other levels of its own stream: any other choice must begin with a key.
    Above the limit every cut (and the picture) first keeps its most faithful and its smallest point, then the rest
    goes to the points furthest from those already kept.
    """
    ordered = sorted(points, key=lambda p: (p.edge_ms + p.encode_ms, p.name))
    costs = [_costs(p) for p in ordered]
    front: dict[tuple[tuple[float, ...], tuple[str, str] | None], OperatingPoint] = {}
    for point, cost in zip(ordered, costs, strict=True):
        rivals = (theirs for other, theirs in zip(ordered, costs, strict=True) if _comparable(other, point))
        if not any(_beats(theirs, cost) for theirs in rivals):
            front.setdefault((cost, _stream(point)), point)
    return _spread(list(front.values()), limit)


def _costs(point: OperatingPoint) -> tuple[float, ...]:
    """Everything as a cost, on logarithmic grids for times. Frame points have no model time on the edge at all."""
    edge = _grid(point.edge_ms + point.encode_ms)
    return (edge, _grid(point.cloud_ms), round(point.payload_bytes), -round(point.fidelity, 4))


def _comparable(other: OperatingPoint, point: OperatingPoint) -> bool:
    """`other` could be taken instead of `point` at any time."""
    return _stream(other) in (None, _stream(point))


def _stream(point: OperatingPoint) -> tuple[str, str] | None:
    """None for a codec without a memory."""
    return (point.codec, point.cut) if point.key_bytes else None


def _grid(ms: float) -> float:
    return float(round(math.log(max(ms, _LEAST_MS)) / math.log(STEP)))


def _beats(other: tuple[float, ...], mine: tuple[float, ...]) -> bool:
    return other != mine and all(o <= m for o, m in zip(other, mine, strict=True))


def _spread(points: Sequence[OperatingPoint], limit: int) -> list[OperatingPoint]:
    if len(points) <= limit:
        return list(points)
    kept: list[OperatingPoint] = []
    for group in dict.fromkeys(p.cut for p in points):
        mine = [p for p in points if p.cut == group]
        kept.append(max(mine, key=lambda p: (p.fidelity, -p.payload_bytes)))
        kept.append(min(mine, key=lambda p: (p.payload_bytes, -p.fidelity)))
    kept = list(dict.fromkeys(kept))[:limit]
    place = {p.name: _place(p) for p in points}
    while len(kept) < limit:
        rest = [p for p in points if p not in kept]
        kept.append(max(rest, key=lambda p: min(_apart(p, k, place) for k in kept)))
    return kept


def _apart(one: OperatingPoint, other: OperatingPoint, place: dict[str, tuple[float, ...]]) -> float:
    streams = {_stream(one), _stream(other)} - {None}
    return math.dist(place[one.name], place[other.name]) + _STREAMS_APART * (len(streams) > 1)


def _place(point: OperatingPoint) -> tuple[float, ...]:
    """Coordinates in which points are far apart that the policy would use differently; 1 is a factor 2 in bytes."""
    edge = math.log2(max(point.edge_ms + point.encode_ms, _LEAST_MS))
    return (math.log2(max(point.payload_bytes, 1.0)), 40.0 * point.fidelity, 0.5 * edge, float(point.key_bytes > 0))
