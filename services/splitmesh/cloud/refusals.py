"""Owns the words and codes of the refusals of queue and quotas."""

from __future__ import annotations

from splitmesh.cloud.job import Job
from splitmesh.schedule.refusal import Refusal, RefusalReason
from splitmesh.schedule.tenants import OverQuota, Quota, Tenant
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
        RefusalReason.DUPLICATE: f"frame {job.frame_id} is in work already",
        RefusalReason.CLOSED: "the worker is going away",
    }[refusal.reason]
    return Nack(_CODES[refusal.reason], detail, _whole_us(refusal.retry_after_ns))


def explain_quota(over: OverQuota, tenant: Tenant) -> Nack:
    """What a sender of `tenant` is told whose request is too many, too large or too much work for now."""
    allowed = {
        Quota.RATE: f"{tenant.rate_rps:g} requests per second",
        Quota.BYTES: f"{tenant.bytes_per_s:g} bytes per second",
        Quota.CONCURRENCY: f"{tenant.concurrency:g} requests at a time",
        Quota.SHARE: f"{100 * tenant.share:g} % of this worker's compute",
    }[over.quota]
    detail = f"tenant {tenant.name} may have {allowed}"
    return Nack(NackCode.QUOTA, detail, _whole_us(over.retry_after_ns))


def _whole_us(ns: int) -> int:
    return min(MAX_US, -(-ns // 1000))
