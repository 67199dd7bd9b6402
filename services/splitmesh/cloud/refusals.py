"""Owns the words and codes of a queue's refusals."""

from __future__ import annotations

from splitmesh.cloud.job import Job
from splitmesh.schedule.edf import Refusal, RefusalReason
from splitmesh.wire.checks import MAX_US
from splitmesh.wire.messages import Nack, NackCode

_CODES = {
    RefusalReason.FULL: NackCode.OVERLOADED,
    RefusalReason.LATE: NackCode.OVERLOADED,
    RefusalReason.DUPLICATE: NackCode.BAD_REQUEST,
    RefusalReason.CLOSED: NackCode.DRAINING,
}


def explain(refusal: Refusal, job: Job, *, waiting: int) -> Nack:
    """What the sender of `job` is told. waiting: requests in the queue."""
    budget_ms = (job.deadline_ns - job.arrived_ns) / 1e6
    cost_ms = job.taken.mean_ns(job.arrived_ns) / 1e6
    detail = {
        RefusalReason.FULL: f"{waiting} requests wait, and no more may",
        RefusalReason.LATE: f"{waiting} requests wait, service takes {cost_ms:.1f} ms, {budget_ms:.1f} ms are left",
        RefusalReason.DUPLICATE: f"frame {job.id} is in work already",
        RefusalReason.CLOSED: "the worker is going away",
    }[refusal.reason]
    return Nack(_CODES[refusal.reason], detail, min(MAX_US, -(-refusal.retry_after_ns // 1000)))
