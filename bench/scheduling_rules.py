"""Owns the orders of service that `bench.scheduling` compares: the production queues, and what they replace."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from bench.scheduling_traces import MEAN_MS, MS, Job

from splitmesh.schedule.fair import FairQueue
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.schedule.tenants import Quotas, Ticket

LIMIT = 64
"""Of the production queues, as a worker has it."""


class ByUrgency:
    """Takes everything, smallest `urgency` first. shed: what can't make it any more is dropped unserved."""

    def __init__(self, urgency: Callable[[Job], float], servers: int, *, shed: bool = False) -> None:
        self._urgency = urgency
        self._servers = servers
        self._shed = shed
        self._waiting: list[tuple[float, int, Job]] = []
        self._running = 0

    def push(self, job: Job, now_ns: int) -> bool:
        heapq.heappush(self._waiting, (self._urgency(job), job.number, job))
        return True

    def pop(self, now_ns: int) -> tuple[Job | None, list[Job]]:
        dropped: list[Job] = []
        while self._waiting and self._running < self._servers:
            job = heapq.heappop(self._waiting)[2]
            if not self._shed or now_ns + MEAN_MS * MS <= job.deadline_ns:
                self._running += 1
                return job, dropped
            dropped.append(job)
        return None, dropped

    def done(self, job: Job, now_ns: int) -> None:
        self._running -= 1


class Edf:
    """`schedule/fair.py` for a single tenant, whoever sends: service times learnt as they come."""

    def __init__(self, servers: int) -> None:
        self._queue: FairQueue[Job] = FairQueue(LIMIT, servers=servers)
        self._times = ServiceTime(round(MEAN_MS * MS))
        self._begun: dict[int, int] = {}

    def push(self, job: Job, now_ns: int) -> bool:
        cost_ns, slack_ns = self._times.mean_ns(now_ns), self._times.slack_ns(now_ns)
        deadline_ns, name = job.deadline_ns, f"{job.number}"
        refusal = self._queue.push(
            name, job, deadline_ns=deadline_ns, cost_ns=cost_ns, slack_ns=slack_ns, now_ns=now_ns
        )
        return refusal is None

    def pop(self, now_ns: int) -> tuple[Job | None, list[Job]]:
        job, dropped = self._queue.pop(now_ns)
        if job is not None:
            self._begun[job.number] = now_ns
        return job, dropped

    def done(self, job: Job, now_ns: int) -> None:
        self._times.observe(now_ns - self._begun.pop(job.number), now_ns)
        self._queue.done(f"{job.number}")


class Fair:
    """`schedule/fair.py` as a worker drives it; quotas: `schedule/tenants.py` before it."""

    def __init__(self, servers: int, quotas: Quotas | None = None) -> None:
        self._queue: FairQueue[Job] = FairQueue(LIMIT, servers=servers)
        self._times = ServiceTime(round(MEAN_MS * MS))
        self._quotas = quotas
        self._tickets: dict[int, Ticket] = {}
        self._begun: dict[int, int] = {}

    def push(self, job: Job, now_ns: int) -> bool:
        cost_ns, slack_ns = self._times.mean_ns(now_ns), self._times.slack_ns(now_ns)
        tenant = job.source.tenant
        ticket = self._quotas and self._quotas.take(tenant, payload_bytes=0, cost_ns=cost_ns, now_ns=now_ns)
        if ticket is not None and not isinstance(ticket, Ticket):
            return False
        times = {"deadline_ns": job.deadline_ns, "cost_ns": cost_ns, "slack_ns": slack_ns, "now_ns": now_ns}
        taken = self._queue.push(f"{job.number}", job, tenant=tenant, **times) is None
        if ticket is not None and self._quotas is not None:
            if taken:
                self._tickets[job.number] = ticket
            else:
                self._quotas.refund(ticket)
        return taken

    def pop(self, now_ns: int) -> tuple[Job | None, list[Job]]:
        job, dropped = self._queue.pop(now_ns)
        if job is not None:
            self._begun[job.number] = now_ns
        for each in dropped:
            self._ended(each, now_ns, 0)
        return job, dropped

    def done(self, job: Job, now_ns: int) -> None:
        taken_ns = now_ns - self._begun.pop(job.number)
        self._times.observe(taken_ns, now_ns)
        self._queue.done(f"{job.number}", taken_ns)
        self._ended(job, now_ns, taken_ns)

    def _ended(self, job: Job, now_ns: int, service_ns: int) -> None:
        ticket = self._tickets.pop(job.number, None)
        if ticket is not None and self._quotas is not None:
            self._quotas.ended(ticket, now_ns, service_ns=service_ns)


RULES: dict[str, Callable[[int], ByUrgency | Edf | Fair]] = {
    "FIFO": lambda servers: ByUrgency(lambda job: job.at_ns, servers),
    "FIFO, hopeless ones dropped": lambda servers: ByUrgency(lambda job: job.at_ns, servers, shed=True),
    "rate-monotonic": lambda servers: ByUrgency(lambda job: -job.source.rate_hz, servers),
    "EDF": lambda servers: ByUrgency(lambda job: job.deadline_ns, servers),
    "EDF, admission": Edf,
    "fair, EDF, admission": Fair,
}
