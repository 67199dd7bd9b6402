"""Owns which of its tenants' jobs a worker takes, which is served next, and what each is charged.

Decides and does nothing: replies, threads and clocks are the worker's.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from splitmesh.cloud.job import Job, job_id
from splitmesh.cloud.refusals import explain, explain_quota
from splitmesh.schedule.batching import Batcher, BatchTimes, Estimate, worthwhile_size
from splitmesh.schedule.fair import FairQueue
from splitmesh.schedule.tenants import OverQuota, Quotas, Tenant
from splitmesh.wire.messages import Nack

TRIAL_NS = 5_000_000_000
MOST_STARVED = 32
"""How many times too slow a warm-up is thought to be at most."""


@dataclass(frozen=True, slots=True)
class Turn:
    """jobs: for one slot to serve together, of one model and cut; none: nothing to begin now. expired: can't make it
    any more. look_again_ns: a slot is left free until then for more to come; 0: none is.
    """

    jobs: list[Job]
    expired: list[Job]
    look_again_ns: int


class Dispatch:
    """A job goes admit → next → ended; or admit → cancel; or admit → `expired`; or admit → take_all."""

    def __init__(self, tenants: Sequence[Tenant], *, slots: int, queue_limit: int) -> None:
        """slots: jobs that run at the same time; queue_limit: jobs that may wait.

        A tenant's share of compute is also its share of the slots, rounded up: the others find one of the rest free,
        or at work for one of them.
        """
        self._queue: FairQueue[Job] = FairQueue(
            queue_limit,
            servers=slots,
            weights={each.name: each.weight for each in tenants},
            most_running={each.name: math.ceil(each.share * slots - 1e-9) for each in tenants},
        )
        self._quotas = Quotas(tenants, servers=slots)
        self._batcher = Batcher()
        self._trial_due_ns = 0
        self._most: dict[Hashable, int] = {}
        """Of a kind of jobs that run in batches: how many at once."""

    def host(self, model: str, cut: str, taken_ns: Mapping[int, int]) -> None:
        """Jobs of this kind may come. taken_ns: by how many of them run at once, 1 among them.

        They run in batches as large as these figures say that it pays; see `schedule.batching.worthwhile_size`.
        """
        most = worthwhile_size(taken_ns)
        if most > 1:
            times = {size: taken for size, taken in taken_ns.items() if size <= most}
            self._batcher.host((model, cut), BatchTimes(times, most=most))
            self._most[model, cut] = most

    def admit(self, job: Job, now_ns: int) -> Nack | None:
        """Take it, or say why not.

        An idle worker that would refuse it for its own slowness alone takes one all the same every `TRIAL_NS`: a
        warm-up on starved cores must not make it refuse for ever.
        """
        key = (job.hosted.model, job.request.cut)
        if key in self._most:
            promise = self._batcher.estimate(key, self._queue.waiting_under(key), now_ns)
        else:
            promise = self._promise(job, now_ns)
        size = len(job.request.payload)
        ticket = self._quotas.take(job.tenant, payload_bytes=size, cost_ns=promise.cost_ns, now_ns=now_ns)
        if isinstance(ticket, OverQuota):
            return explain_quota(ticket, self._quotas.tenant(job.tenant))
        refusal = self._queue.push(
            job.id,
            job,
            tenant=job.tenant,
            key=key,
            deadline_ns=job.deadline_ns,
            cost_ns=promise.cost_ns,
            alone_ns=promise.alone_ns,
            slack_ns=promise.slack_ns,
            now_ns=now_ns,
        )
        if refusal is not None:
            self._quotas.refund(ticket)
            return explain(refusal, job, waiting=len(self._queue))
        job.ticket = ticket
        if key in self._most:
            self._batcher.arrived(key, now_ns)
        return None

    def _promise(self, job: Job, now_ns: int) -> Estimate:
        mean_ns, slack_ns = job.taken.mean_ns(now_ns), job.taken.slack_ns(now_ns)
        budget_ns = job.deadline_ns - now_ns
        alone_is_late = budget_ns < mean_ns + slack_ns <= MOST_STARVED * budget_ns
        if alone_is_late and self.idle and now_ns >= self._trial_due_ns:
            self._trial_due_ns = now_ns + TRIAL_NS
            job.trial = True
            mean_ns, slack_ns = max(1, budget_ns // 2), 0
        return Estimate(mean_ns, mean_ns, slack_ns)

    def next(self, now_ns: int) -> Turn:
        """What a free slot does next, if there are both, and who can't make it any more."""
        held: set[Hashable] = set()
        look_again_ns = 0
        while self._most and self._queue.free:
            head = self._queue.head(max(self._most.values()), skip=held)
            if head is None or head.key not in self._most:
                break
            share = self._share(head.key)
            more = self._queue.waiting_under(head.key) > share
            batch = self._batcher.decide(head.key, head.deadlines_ns[:share], now_ns, hold=not more)
            if batch.size:
                jobs, expired = self._queue.pop_batch(now_ns, batch.size, cost_ns=batch.cost_ns, skip=held)
                return self._turn(jobs, expired, look_again_ns, now_ns)
            held.add(head.key)
            look_again_ns = min(batch.hold_until_ns, look_again_ns or batch.hold_until_ns)
        jobs, expired = self._queue.pop_batch(now_ns, skip=held)
        return self._turn(jobs, expired, look_again_ns, now_ns)

    def _share(self, key: Hashable) -> int:
        """How many of those that wait under `key` one slot takes: they are spread over all that are free."""
        spread = -(-self._queue.waiting_under(key) // self._queue.free)
        return min(self._most[key], spread)

    def _turn(self, jobs: list[Job], expired: list[Job], look_again_ns: int, now_ns: int) -> Turn:
        self._unserved(expired, now_ns)
        return Turn(jobs, expired, look_again_ns)

    def ran(self, jobs: Sequence[Job], taken_ns: int, now_ns: int) -> None:
        """They were served together, and took so long."""
        first = jobs[0]
        if first.trial:
            first.taken.restart(taken_ns, now_ns)
        elif len(jobs) == 1:
            first.taken.observe(taken_ns, now_ns)
        self._batcher.observe((first.hosted.model, first.request.cut), len(jobs), taken_ns, now_ns)

    def ended(self, job: Job, now_ns: int, service_ns: int | None = None) -> None:
        """Its slot is free again, once all that ran with it ended. service_ns: its part of their time, if known."""
        self._queue.done(job.id, service_ns)
        if job.ticket is not None:
            self._quotas.ended(job.ticket, now_ns, service_ns=service_ns)

    def cancel(self, tenant: str, frame_id: str, now_ns: int) -> Job | None:
        """The job that the tenant's frame was, which waits no more; None if it did not wait."""
        job = self._queue.cancel(job_id(tenant, frame_id))
        if job is not None:
            self._unserved([job], now_ns)
        return job

    def close(self) -> None:
        """Refuse whatever comes; what waits is still served."""
        self._queue.close()

    def take_all(self, now_ns: int) -> list[Job]:
        """All that waits, which then waits no more."""
        jobs = self._queue.take_all()
        self._unserved(jobs, now_ns)
        return jobs

    @property
    def idle(self) -> bool:
        return self._queue.idle

    def depth(self, tenant: str | None = None) -> int:
        """Jobs that wait; None: of all tenants."""
        return len(self._queue) if tenant is None else self._queue.waiting(tenant)

    def wait_ns(self, now_ns: int) -> int:
        """How long a job that arrives now would wait behind all that is here: what more slots would shorten."""
        return self._queue.predicted_wait_ns(now_ns)

    def tenant_wait_ns(self, tenant: str, now_ns: int) -> int:
        """How long the tenant's next job would wait, for its turn and for its quotas."""
        return max(self._queue.predicted_wait_ns(now_ns, tenant), self._quotas.wait_ns(tenant, now_ns))

    def _unserved(self, jobs: Iterable[Job], now_ns: int) -> None:
        for job in jobs:
            if job.ticket is not None:
                self._quotas.ended(job.ticket, now_ns, service_ns=0)

    def __repr__(self) -> str:
        return repr(self._queue)
