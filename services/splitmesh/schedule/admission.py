"""Owns the question whether a request can still make it. Pure arithmetic on predicted costs; knows no queue."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """Work that waits: how long it takes by prediction, and when it must be done. Nanoseconds, monotonic."""

    cost_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """`late_by_ns` 0: admitted. Else by how much the newcomer, or one it would push aside, would be late."""

    start_ns: int
    finish_ns: int
    late_by_ns: int


def finish_times(free_ns: Sequence[int], costs_ns: Iterable[int], now_ns: int) -> list[int]:
    """When each job ends if they are served in order, each by the server that is free first.

    free_ns: per server, when it is done with what it does now (the past counts as now). At least one server.
    """
    free = [max(now_ns, at) for at in free_ns]
    heapq.heapify(free)
    return [_place(free, cost) for cost in costs_ns]


def _place(free: list[int], cost_ns: int) -> int:
    finish = free[0] + cost_ns
    heapq.heapreplace(free, finish)
    return finish


def judge(
    claims: Sequence[Claim], place: int, newcomer: Claim, *, slack_ns: int, free_ns: Sequence[int], now_ns: int
) -> Verdict:
    """Can `newcomer` be served at `place` among `claims` (in order of service) so that nobody who would have been
    in time becomes late?

    slack_ns: how much earlier than its deadline the newcomer must be done by prediction, for its spread.
    """
    before = finish_times(free_ns, (c.cost_ns for c in claims), now_ns)
    order = [*claims[:place], newcomer, *claims[place:]]
    after = finish_times(free_ns, (c.cost_ns for c in order), now_ns)
    finish = after[place]
    late = max(0, finish + slack_ns - newcomer.deadline_ns)
    for claim, alone, pushed in zip(claims[place:], before[place:], after[place + 1 :], strict=True):
        if alone <= claim.deadline_ns:
            late = max(late, pushed - claim.deadline_ns)
    return Verdict(finish - newcomer.cost_ns, finish, late)
