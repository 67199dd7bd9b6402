"""Owns one tenant's side of a worker: its streams, tables and running jobs, its replies and what was counted of it.

Whatever comes on a tenant's subjects reaches its own tenancy and no other: the tenant is known from the subject,
which the broker's permissions or account mappings vouch for, and never from what a message says.
"""

from __future__ import annotations

from splitmesh.cloud.desk import ReplyDesk
from splitmesh.cloud.intake import Intake
from splitmesh.cloud.job import Job
from splitmesh.schedule.tenants import TokenBucket
from splitmesh.telemetry.metrics import TenantOutcome
from splitmesh.wire.messages import Nack, NackCode

TABLES_PER_S, TABLES_AT_ONCE = 10.0, 64.0
"""Tables that a tenant's edges may send: each is read before anything is known of it. An edge sends one once."""


class Tenancy:
    """running: jobs in service, by frame id. compute_ns: time of slots that served it."""

    def __init__(self, name: str, intake: Intake, desk: ReplyDesk) -> None:
        self.name = name
        self.intake = intake
        self.desk = desk
        self.running: dict[str, Job] = {}
        self.compute_ns = 0
        self._tables = TokenBucket(TABLES_PER_S, TABLES_AT_ONCE)

    def figures(self, *, depth: int, wait_ns: int) -> dict[str, float]:
        """As `CloudStatus.tenants` has them. depth: of its jobs that wait; wait_ns: predicted for its next."""
        return {
            "queue_depth": depth,
            "running": len(self.running),
            "predicted_wait_ms": wait_ns / 1e6,
            "served": self.desk.served,
            "refused": self.desk.nacked.total(),
            "over_quota": self.desk.nacked[NackCode.QUOTA.label],
            "streams": len(self.intake.streams),
        }

    def admit_table(self, now_ns: int) -> Nack | None:
        """None: it may be read."""
        missing_ns = self._tables.missing_ns(1, now_ns)
        if missing_ns > 0:
            return Nack(NackCode.QUOTA, f"{TABLES_PER_S:g} tables a second are read", -(-int(missing_ns) // 1000))
        self._tables.take(1)
        return None

    def counts(self) -> dict[TenantOutcome, int]:
        """Its requests that have ended."""
        nacked = self.desk.nacked
        over, cancelled = nacked[NackCode.QUOTA.label], nacked[NackCode.CANCELLED.label]
        return {
            TenantOutcome.ANSWERED: self.desk.served,
            TenantOutcome.REFUSED: nacked.total() - over - cancelled,
            TenantOutcome.OVER_QUOTA: over,
            TenantOutcome.CANCELLED: cancelled,
        }

    def __repr__(self) -> str:
        return f"<Tenancy {self.name} running={len(self.running)} {self.intake.streams!r} {self.intake.tables!r}>"
