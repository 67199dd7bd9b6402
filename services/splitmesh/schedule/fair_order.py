"""Owns when a job would start in fair order, from what waits and runs now. Pure arithmetic; knows no queue.

In start-time fair queueing a job starts behind what has a smaller virtual start. So of another tenant's work there
comes before it what that tenant can begin up to then: its weight times the virtual time between, and one job more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

_TIE_NS = 0.01
"""Virtual starts that differ by no more may be served either way round."""
_FAR_NS = 1e15

Floats = npt.NDArray[np.float64]


class Standing(Protocol):
    """What the order needs to know of a tenant. tag: virtual start of its next job; the rest of its waiting work."""

    @property
    def tag(self) -> float: ...
    @property
    def weight(self) -> float: ...
    @property
    def work_ns(self) -> int: ...
    @property
    def longest_ns(self) -> int: ...


def other_ahead(tag: float, weight: float, others: Iterable[Standing], own_ns: float) -> float:
    """At most how much work of others, ns, is served before a job that has `own_ns` of its tenant's before it.

    tag, weight: of its tenant. others: without it. Follows Goyal, Vin & Cheng, SIGCOMM 1996, section 2.
    """
    start = tag + own_ns / weight + _TIE_NS / weight
    ahead = 0.0
    for other in others:
        if start >= other.tag:
            ahead += min(other.work_ns, other.longest_ns + (start - other.tag) * other.weight)
    return ahead


def others_ahead(tag: float, weight: float, others: Iterable[Standing], own_ns: Floats) -> Floats:
    """`other_ahead` of many jobs of one tenant, with `own_ns` (n,) before them: a curve of straight pieces."""
    level = slope = 0.0
    bends: list[tuple[float, float, float]] = []
    for other in others:
        jump = min(other.longest_ns, other.work_ns)
        rate = other.weight / weight
        begins = (other.tag - tag) * weight - _TIE_NS
        ends = begins + (other.work_ns - jump) / rate
        if ends <= 0:
            level += other.work_ns
            continue
        if begins <= 0:
            level += jump - begins * rate
            slope += rate
        else:
            bends.append((begins, jump, rate))
        bends.append((ends, 0.0, -rate))
    if not bends:
        return np.full_like(own_ns, level)
    return np.interp(own_ns, *_curve(level, slope, sorted(bends)))


def _curve(
    level: float, slope: float, bends: Sequence[tuple[float, float, float]]
) -> tuple[list[float], list[float]]:
    """Points of the curve that starts at (0, level) and at each (x, jump, change of slope) bends."""
    xs, ys = [0.0], [level]
    for x, jump, change in bends:
        y = ys[-1] + slope * (x - xs[-1])
        xs += (x, x)  # np.interp takes the later of equal ones: the jump counts from x on
        ys += (y, y + jump)
        slope += change
    return xs, ys


def start_ns(ahead_ns: float, free_ns: Sequence[int], now_ns: int) -> float:
    """At latest how long after `now_ns` a job starts that has `ahead_ns` of work before it.

    free_ns: per server, when it is done with what it does now (the past counts as now). Exact for one server; for
    more, no server is idle before the job starts (Graham 1969), so together they have done all that until then.
    """
    if len(free_ns) == 1:
        return max(0, free_ns[0] - now_ns) + ahead_ns
    free = sorted(max(0, at - now_ns) for at in free_ns)
    for servers, (begun, until) in enumerate(pairwise(free), 1):
        if ahead_ns <= servers * (until - begun):
            return begun + ahead_ns / servers
        ahead_ns -= servers * (until - begun)
    return free[-1] + ahead_ns / len(free)


def starts_ns(ahead_ns: Floats, free_ns: Sequence[int], now_ns: int) -> Floats:
    """`start_ns` of many jobs, with `ahead_ns` (n,) before them."""
    free = sorted(max(0, at - now_ns) for at in free_ns)
    if len(free) == 1:
        return ahead_ns + free[0]
    done = [float(sum(at - each for each in free[:k])) for k, at in enumerate(free)]
    done.append(done[-1] + _FAR_NS * len(free))
    return np.interp(ahead_ns, done, [*(float(at) for at in free), free[-1] + _FAR_NS])
