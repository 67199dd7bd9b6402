"""Owns the order of service among tenants: weighted-fair across them, earliest deadline first within each; bounded,
admitting only what can make it in that order. Reads no clock.

Across tenants it is start-time fair queueing (Goyal, Vin & Cheng, SIGCOMM 1996), for several servers as SFQ(D) (Jin,
Chase & Kaur, SIGMETRICS 2004), with predicted service time in place of length, put right by the true time once it is
known. Within a tenant it is earliest deadline first, which is optimal for one server and jobs that can be met at all
(Liu & Layland, 1973); admission keeps it that way under overload, where plain EDF makes everybody a little late.

What an admitted job may count on, if services take what was predicted:

1. Whatever its own tenant sends later, and whatever is refused, cancelled or dropped: it is in time.
2. Other tenants' newcomers can make it late only if they are served before it, so only while its tenant has more work
   waiting for its weight than theirs; the same goes for its place in a full queue. It is then dropped before it runs,
   and said.
3. None of them can while it would be in time even behind their full shares: on one server, for a job with `own` work
   of its tenant before it and virtual start s, while R + own + sum over others n of (L + weight_n * (s - v)) leaves
   room for it; R is what runs, L the longest job, v the virtual time. So a tenant that asks for no more than its
   share waits for what runs and one job of each other at most, and is not refused if its deadlines leave room for
   that, however much they send.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from splitmesh.schedule.fair_order import other_ahead, others_ahead
from splitmesh.schedule.flow import Entry, Flow
from splitmesh.schedule.refusal import Refusal, RefusalReason
from splitmesh.schedule.servers import Servers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Head:
    """The job that is next in fair order, and what could run along with it.

    deadlines_ns: its own, then those of others that wait under the same key, earliest first.
    """

    id: str
    key: Hashable
    deadlines_ns: tuple[int, ...]


class FairQueue(Generic[T]):
    """At most `limit` waiting jobs, of one tenant at most `per_tenant`, for `servers` equal servers.

    weights: by tenant; who is not among them has weight 1. most_running: at how many servers its jobs may run at a
    time, by tenant. Every time is monotonic nanoseconds.

    A job goes push → pop → done; or push → cancel; or push → pop's `expired`; or `take_all`. In a full queue, a
    newcomer takes the place of the last job of the tenant that has most waiting for its weight, if that is not its
    own: such a job is told among `expired`.
    """

    def __init__(
        self,
        limit: int,
        *,
        servers: int = 1,
        weights: Mapping[str, float] | None = None,
        most_running: Mapping[str, int] | None = None,
        per_tenant: int | None = None,
    ) -> None:
        self.limit = limit
        self.per_tenant = limit if per_tenant is None else per_tenant
        self.closed = False
        self._named: dict[str, Flow[T]] = {name: Flow(name, weight) for name, weight in (weights or {}).items()}
        self._flows: dict[str, Flow[T]] = {}
        self._waiting: dict[str, Entry[T]] = {}
        self._keys: dict[Hashable, list[tuple[int, int, Entry[T]]]] = {}
        self._latest: list[tuple[int, int, Entry[T]]] = []
        self._servers = Servers(servers, most_running)
        self._charged: dict[str, tuple[Flow[T], int]] = {}
        self._displaced: list[T] = []
        self._virtual = 0.0
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return self._servers.jobs

    @property
    def free(self) -> int:
        """Servers that do nothing."""
        return self._servers.free

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._waiting and not self._servers.jobs

    def waiting(self, tenant: str) -> int:
        flow = self._flows.get(tenant)
        return len(flow) if flow else 0

    def waiting_under(self, key: Hashable) -> int:
        return len(self._keys.get(key, ()))

    def push(
        self,
        id: str,
        item: T,
        *,
        tenant: str = "",
        key: Hashable = None,
        deadline_ns: int,
        cost_ns: int,
        now_ns: int,
        slack_ns: int = 0,
        alone_ns: int | None = None,
    ) -> Refusal | None:
        """Take the job, or say why not.

        cost_ns: predicted server time, positive; slack_ns: its spread, kept free. key: jobs of one may run together.
        alone_ns: how long it takes by itself, if cost_ns is but its part of a batch.
        """
        if self.closed:
            return Refusal(RefusalReason.CLOSED)
        if id in self._waiting or id in self._servers:
            return Refusal(RefusalReason.DUPLICATE)
        flow = self._flow(tenant)
        fullest = self._fullest() if len(self) >= self.limit else None
        if fullest is flow or len(flow) >= self.per_tenant:
            return Refusal(RefusalReason.FULL, max(1, self.predicted_wait_ns(now_ns, tenant)))
        place = flow.place(deadline_ns)
        latest_ns = deadline_ns - (cost_ns if alone_ns is None else alone_ns)
        late_ns = self._late_ns(flow, place, latest_ns - slack_ns, cost_ns, now_ns)
        if late_ns > 0:
            hopeless = now_ns + slack_ns > latest_ns  # even on an idle worker
            return Refusal(RefusalReason.LATE, 0 if hopeless else late_ns)
        if fullest is not None:
            self._displaced.append(self._take(fullest.last).item)
        self._put(Entry(id, item, flow, key, deadline_ns, cost_ns, latest_ns, self._count), place)
        return None

    def pop(self, now_ns: int) -> tuple[T | None, list[T]]:
        """The next job to serve (None: none waits, or no server is free), and those that will not be served."""
        items, expired = self.pop_batch(now_ns)
        return (items[0] if items else None), expired

    def pop_batch(
        self, now_ns: int, size: int = 1, *, cost_ns: int | None = None, skip: Collection[Hashable] = ()
    ) -> tuple[list[T], list[T]]:
        """The next job and up to `size` - 1 others of its key, most urgent first, for one server; and those that will
        not be served.

        cost_ns: predicted time of the whole batch, else the sum of its jobs'. skip: keys that are held back.
        """
        expired = self.expire(now_ns)
        first = self._next(skip) if self._waiting and self._servers.free else None
        if first is None:
            return [], expired
        batch = self._together(first, size) if size > 1 else [first]
        alone_ns = sum(entry.cost_ns for entry in batch)
        total_ns = alone_ns if cost_ns is None else cost_ns
        self._virtual = max(self._virtual, first.flow.tag)
        for entry in batch:
            self._take(entry)
            part_ns = entry.cost_ns * total_ns // max(1, alone_ns)
            entry.flow.charge(part_ns)
            self._charged[entry.id] = (entry.flow, part_ns)
        self._servers.begin(first.flow.tenant, [entry.id for entry in batch], now_ns + total_ns)
        return [entry.item for entry in batch], expired

    def head(self, most: int = 1, *, skip: Collection[Hashable] = ()) -> Head | None:
        """What `pop_batch` would take of at most `most`; None: nothing waits under a key that is not in `skip`."""
        first = self._next(skip)
        if first is None:
            return None
        return Head(first.id, first.key, tuple(entry.deadline_ns for entry in self._together(first, most)))

    def _together(self, first: Entry[T], most: int) -> list[Entry[T]]:
        others = (entry for _, _, entry in self._keys[first.key] if entry is not first)
        return [first, *islice(others, most - 1)]

    def expire(self, now_ns: int) -> list[T]:
        """Take out those that can't make it any more, and those that were displaced since."""
        gone, self._displaced = self._displaced, []
        while self._latest and (self._latest[0][0] < now_ns or not self._waits(self._latest[0][2])):
            entry = heapq.heappop(self._latest)[2]
            if self._waits(entry):
                gone.append(self._take(entry).item)
        return gone

    def done(self, id: str, taken_ns: int | None = None) -> None:
        """Job `id` is served; its server is free again once all of its batch are. Raises KeyError if it does not run.

        taken_ns: the server time that was its part, charged to its tenant in place of the prediction.
        """
        self._servers.end(id)
        flow, charged_ns = self._charged.pop(id)
        if taken_ns is not None:
            flow.charge(taken_ns - charged_ns)
        if self.idle:  # a good moment to begin anew: virtual times that grow for ever lose their last digits
            self._flows.clear()
            self._virtual = 0.0

    def cancel(self, id: str) -> T | None:
        """Take a waiting job out; None if it does not wait (any more)."""
        entry = self._waiting.get(id)
        return None if entry is None else self._take(entry).item

    def close(self) -> None:
        """Refuse every later push; what waits is still served."""
        self.closed = True

    def take_all(self) -> list[T]:
        """Everything that waits, and what was displaced and not told yet; none of it waits any more."""
        gone, self._displaced = self._displaced, []
        return gone + [self._take(entry).item for entry in list(self._waiting.values())]

    def predicted_wait_ns(self, now_ns: int, tenant: str | None = None) -> int:
        """How long a job that arrives now would wait at most, behind all others of `tenant`; None: of all."""
        if tenant is None:
            work_ns = sum(flow.work_ns for flow in self._flows.values())
            return round(self._servers.all_done_ns(work_ns, now_ns))
        flow = self._flow(tenant)
        return round(self._start_ns(flow, flow.work_ns, now_ns))

    def _late_ns(self, flow: Flow[T], place: int, latest_ns: int, cost_ns: int, now_ns: int) -> int:
        """By how much a newcomer that must start by `latest_ns`, or one of its tenant that it would push aside, would
        be late; 0: nobody.
        """
        if place == len(flow):
            return max(0, round(self._start_ns(flow, flow.work_ns, now_ns)) + now_ns - latest_ns)
        costs, latest_starts = flow.behind(place)
        ends = np.add.accumulate(costs)
        own_ns = flow.work_ns - ends[-1].item()
        late = self._start_ns(flow, own_ns, now_ns) + now_ns - latest_ns
        before = (ends - costs + own_ns).astype(np.float64)
        left = latest_starts - now_ns
        servers, tenant, others = self._servers, flow.tenant, self._others(flow)
        theirs = np.full_like(before, sum(other.work_ns for other in others))
        pushed = servers.starts_ns(tenant, before + cost_ns, theirs, now_ns) - left
        if pushed.max() > 0:  # late behind all that others have: so look how much of that goes before
            ahead = others_ahead(flow.tag, flow.weight, others, before + cost_ns)
            pushed = servers.starts_ns(tenant, before + cost_ns, ahead, now_ns) - left
            lost = (
                servers.starts_ns(tenant, before, np.zeros_like(before), now_ns) > left
            )  # late even before all others: nobody's fault
            late = max(late, float(np.where(lost, 0.0, pushed).max()))
        return max(0, round(late))

    def _start_ns(self, flow: Flow[T], own_ns: int, now_ns: int) -> float:
        """At latest how long after now a job starts that has `own_ns` of its tenant's work before it."""
        others_ns = other_ahead(flow.tag, flow.weight, self._others(flow), own_ns)
        return self._servers.start_ns(flow.tenant, own_ns, others_ns, now_ns)

    def _others(self, flow: Flow[T]) -> list[Flow[T]]:
        return [other for other in self._flows.values() if other is not flow and other.work_ns]

    def _flow(self, tenant: str) -> Flow[T]:
        """A tenant that comes (back) begins at the virtual time: what it left unused is not saved up."""
        flow = self._flows.get(tenant)
        if flow is None:
            flow = self._named.get(tenant)
            if flow is None:
                flow = Flow(tenant, 1.0)
            flow.tag = 0.0
        if not len(flow):
            flow.tag = max(flow.tag, self._virtual)
        return flow

    def _fullest(self) -> Flow[T]:
        return max((flow for flow in self._flows.values() if len(flow)), key=lambda flow: flow.end_tag)

    def _next(self, skip: Collection[Hashable]) -> Entry[T] | None:
        heads = [flow.first for flow in self._flows.values() if len(flow) and self._servers.open_to(flow.tenant)]
        free = [head for head in heads if head.key not in skip] if skip else heads
        return min(free, key=lambda head: (head.flow.tag, head.deadline_ns, head.number), default=None)

    def _waits(self, entry: Entry[T]) -> bool:
        return self._waiting.get(entry.id) is entry

    def _put(self, entry: Entry[T], place: int) -> None:
        self._count += 1
        if entry.flow.tenant not in self._flows:
            self._forget_spent()
            self._flows[entry.flow.tenant] = entry.flow
        entry.flow.insert(place, entry)
        self._waiting[entry.id] = entry
        insort(self._keys.setdefault(entry.key, []), (entry.deadline_ns, entry.number, entry))
        heapq.heappush(self._latest, (entry.latest_start_ns, entry.number, entry))

    def _take(self, entry: Entry[T]) -> Entry[T]:
        entry.flow.remove(entry)
        del self._waiting[entry.id]
        same = self._keys[entry.key]
        del same[bisect_left(same, (entry.deadline_ns, entry.number))]
        if not same:
            del self._keys[entry.key]
        if len(self._latest) > 2 * len(self._waiting) + 64:  # what left by other doors would be held until it expired
            self._latest = [each for each in self._latest if self._waits(each[2])]
            heapq.heapify(self._latest)
        return entry

    def _forget_spent(self) -> None:
        """Let go of tenants that have nothing waiting and no service ahead of the others'."""
        spent = [name for name, flow in self._flows.items() if not len(flow) and flow.tag <= self._virtual]
        for name in spent:
            del self._flows[name]

    def __repr__(self) -> str:
        return (
            f"<FairQueue waiting={len(self)} running={self.running} tenants={len(self._flows)} closed={self.closed}>"
        )
