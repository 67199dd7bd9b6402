"""Owns what equal servers do now, for whom, and when they are free. Reads no clock; knows no queue.

A tenant may be kept to some of the servers at a time, so that the others are never all busy with its work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from splitmesh.schedule.fair_order import Floats, start_ns, starts_ns


@dataclass(slots=True, eq=False)
class Run:
    """What one server does: a job of `tenant`, and others that run along with it."""

    tenant: str
    end_ns: int
    """As predicted."""
    left: set[str]
    """Ids of its jobs that have not ended."""


class Servers:
    """`count` of them. most: at how many a tenant's jobs may run at a time; who is not among them: at all."""

    def __init__(self, count: int, most: Mapping[str, int] | None = None) -> None:
        self.count = count
        self._most = {tenant: each for tenant, each in (most or {}).items() if each < count}
        self._runs: dict[str, Run] = {}
        self._busy: list[Run] = []
        self._held: Counter[str] = Counter()

    def __contains__(self, id: str) -> bool:
        """Job `id` runs."""
        return id in self._runs

    @property
    def jobs(self) -> int:
        """That run, in batches or alone."""
        return len(self._runs)

    @property
    def free(self) -> int:
        return max(0, self.count - len(self._busy))

    def open_to(self, tenant: str) -> bool:
        """The tenant does not run at as many as it may."""
        return self._held[tenant] < self._most.get(tenant, self.count)

    def begin(self, tenant: str, ids: Iterable[str], end_ns: int) -> None:
        """One server serves these jobs together until `end_ns`; `tenant`: of the first."""
        run = Run(tenant, end_ns, set(ids))
        self._runs.update(dict.fromkeys(run.left, run))
        self._busy.append(run)
        self._held[tenant] += 1

    def end(self, id: str) -> None:
        """Job `id` is served; its server is free once all of its batch are. Raises KeyError if it does not run."""
        run = self._runs.pop(id)
        run.left.discard(id)
        if not run.left:
            self._busy.remove(run)
            self._held[run.tenant] -= 1

    def start_ns(self, tenant: str, own_ns: float, others_ns: float, now_ns: int) -> float:
        """At latest how long after now a job of `tenant` starts that has `own_ns` of its tenant's work before it and
        `others_ns` of others'.

        One that is kept to some servers waits while they all do its own work, and else while all servers are busy:
        the two times add up, each bounded as Graham (1969) does it.
        """
        free_ns = self._free_ns(now_ns)
        if tenant not in self._most:
            return start_ns(own_ns + others_ns, free_ns, now_ns)
        return start_ns(own_ns, self._own_free_ns(tenant, now_ns), now_ns) + start_ns(others_ns, free_ns, now_ns)

    def starts_ns(self, tenant: str, own_ns: Floats, others_ns: Floats, now_ns: int) -> Floats:
        """`start_ns` of many jobs, with `own_ns` and `others_ns` (n,) before them."""
        free_ns = self._free_ns(now_ns)
        if tenant not in self._most:
            return starts_ns(own_ns + others_ns, free_ns, now_ns)
        return starts_ns(own_ns, self._own_free_ns(tenant, now_ns), now_ns) + starts_ns(others_ns, free_ns, now_ns)

    def all_done_ns(self, work_ns: float, now_ns: int) -> float:
        """At latest how long after now a server is free behind `work_ns` of whoever's."""
        return start_ns(work_ns, self._free_ns(now_ns), now_ns)

    def _free_ns(self, now_ns: int) -> list[int]:
        return [run.end_ns for run in self._busy] + [now_ns] * self.free

    def _own_free_ns(self, tenant: str, now_ns: int) -> list[int]:
        busy = [run.end_ns for run in self._busy if run.tenant == tenant]
        return busy + [now_ns] * (self._most[tenant] - len(busy))

    def __repr__(self) -> str:
        return f"<Servers busy={len(self._busy)} of {self.count}>"
