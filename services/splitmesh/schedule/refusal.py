"""Owns why a queue does not take a job, and when the same job could be taken."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
