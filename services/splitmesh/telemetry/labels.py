"""Owns the values that labels of metrics may have: enums, and names that pass through a `BoundedNames`."""

from __future__ import annotations

import threading
from enum import StrEnum


class Side(StrEnum):
    """Whose speed a γ describes."""

    EDGE = "edge"
    CLOUD = "cloud"


class Reconnected(StrEnum):
    """What came back."""

    SOURCE = "source"
    BROKER = "broker"


class PoolEvent(StrEnum):
    """Where a request of an edge went, and what became of the workers that it could go to."""

    CHOSEN = "chosen"
    """To the worker that was expected to answer soonest."""
    QUEUE_GROUP = "queue-group"
    """To whichever worker the broker picks: none was known, or the chosen one had gone."""
    HOME = "home"
    """To the worker that has its stream open."""
    HEDGED = "hedged"
    """A second time, to another worker."""
    HEDGE_WON = "hedge-won"
    EJECTED = "ejected"


class Told(StrEnum):
    """What an edge sends that belongs to no frame."""

    REPORT = "report"
    FRAMES = "frames"
    PREVIEW = "preview"
    REPLY = "reply"
    KEEP = "keep"


class Asked(StrEnum):
    """What became of a command to an edge, or of a question for spans."""

    ANSWERED = "answered"
    REFUSED = "refused"
    IGNORED = "ignored"
    """Of far too many: not even refused."""


class RequestOutcome(StrEnum):
    ANSWERED = "answered"
    NACKED = "nacked"
    CANCELLED = "cancelled"


class TenantOutcome(StrEnum):
    """How a request of a tenant ended, to the tenant."""

    ANSWERED = "answered"
    REFUSED = "refused"
    OVER_QUOTA = "over-quota"
    CANCELLED = "cancelled"


class BoundedNames:
    """Passes the first `limit` distinct names; later ones become "other". Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        if name in self._seen:
            return name
        with self._lock:
            if len(self._seen) >= self._limit:
                return "other"
            self._seen.add(name)
            return name
