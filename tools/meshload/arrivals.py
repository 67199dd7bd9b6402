"""Owns when requests shall leave. Schedules are fixed beforehand: nothing that a server does can move an arrival."""

from __future__ import annotations

from typing import NamedTuple

from meshload.target import Payload


class Arrival(NamedTuple):
    """One intended send. A schedule is an iterator of these, ordered by time."""

    at_ns: int
    """Since the start of the run, its warm-up included."""
    tenant: str = ""
    """"": the target's own."""
    edge: str = "meshload"
    deadline_ns: int = 0
    """After `at_ns`; 0: none."""
    payload: Payload | None = None
    """None: the next one of the run's payloads."""
