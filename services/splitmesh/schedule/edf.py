"""Owns the order of service: earliest deadline first, bounded, admitting only what can make it. Reads no clock.

EDF is optimal for one server and jobs that can be met at all (Liu & Layland, 1973); admission keeps it that way
under overload, where plain EDF makes everybody a little late.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from splitmesh.schedule.admission import Claim, finish_times, judge

T = TypeVar("T")


class RefusalReason(StrEnum):
    FULL = "full"
    LATE = "late"
    """Its predicted finish, or that of one it would push aside, lies beyond the deadline."""
    DUPLICATE = "duplicate"
    """Its id waits or runs already."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: RefusalReason
    retry_after_ns: int = 0
    """When the same request could be admitted, as far as is known now; 0: trying again makes no sense."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    id: str
    item: T
    claim: Claim


class EdfQueue(Generic[T]):
    """At most `limit` waiting jobs for `servers` equal servers. Every time is monotonic nanoseconds.

    A job goes push → pop → done; or push → cancel; or push → pop's `expired`; or `close`.
    """

    def __init__(self, limit: int, *, servers: int = 1) -> None:
        self.limit = limit
        self.servers = servers
        self.closed = False
        self._waiting: list[_Entry[T]] = []
        self._deadlines: list[int] = []
        self._running: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._waiting and not self._running

    def push(
        self, id: str, item: T, *, deadline_ns: int, cost_ns: int, now_ns: int, slack_ns: int = 0
    ) -> Refusal | None:
        """Take the job, or say why not. cost_ns: predicted service time; slack_ns: its spread, kept free."""
        if self.closed:
            return Refusal(RefusalReason.CLOSED)
        if id in self._running or any(entry.id == id for entry in self._waiting):
            return Refusal(RefusalReason.DUPLICATE)
        if len(self._waiting) >= self.limit:
            return Refusal(RefusalReason.FULL, max(1, self.predicted_wait_ns(now_ns)))
        claim = Claim(cost_ns, deadline_ns)
        place = bisect_right(self._deadlines, deadline_ns)
        verdict = judge(
            [entry.claim for entry in self._waiting],
            place,
            claim,
            slack_ns=slack_ns,
            free_ns=self._free_ns(now_ns),
            now_ns=now_ns,
        )
        if verdict.late_by_ns > 0:
            hopeless = now_ns + cost_ns + slack_ns > deadline_ns  # even on an idle worker
            return Refusal(RefusalReason.LATE, 0 if hopeless else verdict.late_by_ns)
        self._waiting.insert(place, _Entry(id, item, claim))
        self._deadlines.insert(place, deadline_ns)
        return None

    def pop(self, now_ns: int) -> tuple[T | None, list[T]]:
        """The next job to serve (None: none waits, or no server is free), and those that can't make it any more."""
        expired = []
        for place in range(len(self._waiting) - 1, -1, -1):
            claim = self._waiting[place].claim
            if now_ns + claim.cost_ns > claim.deadline_ns:
                expired.append(self._take(place).item)
        expired.reverse()
        if not self._waiting or len(self._running) >= self.servers:
            return None, expired
        entry = self._take(0)
        self._running[entry.id] = now_ns + entry.claim.cost_ns
        return entry.item, expired

    def done(self, id: str) -> None:
        """The server of job `id` is free again. Raises KeyError if it does not run."""
        del self._running[id]

    def cancel(self, id: str) -> T | None:
        """Take a waiting job out; None if it does not wait (any more)."""
        for place, entry in enumerate(self._waiting):
            if entry.id == id:
                return self._take(place).item
        return None

    def close(self) -> None:
        """Refuse every later push; what waits is still served."""
        self.closed = True

    def take_all(self) -> list[T]:
        """Everything that waits, which then waits no more."""
        items = [entry.item for entry in self._waiting]
        self._waiting.clear()
        self._deadlines.clear()
        return items

    def predicted_wait_ns(self, now_ns: int) -> int:
        """How long a job that arrives now, behind all others, would wait for a server."""
        start = finish_times(self._free_ns(now_ns), [*(e.claim.cost_ns for e in self._waiting), 0], now_ns)[-1]
        return start - now_ns

    def _free_ns(self, now_ns: int) -> list[int]:
        busy = list(self._running.values())
        return busy + [now_ns] * max(0, self.servers - len(busy))

    def _take(self, place: int) -> _Entry[T]:
        del self._deadlines[place]
        return self._waiting.pop(place)

    def __repr__(self) -> str:
        return f"<EdfQueue waiting={len(self._waiting)} running={len(self._running)} closed={self.closed}>"
