"""Owns the jobs of one tenant that wait, earliest deadline first, and where the tenant stands in virtual time.

Deadlines, costs and latest starts lie in flat arrays beside the jobs, so that a judgement over hundreds of them is
a few numpy calls and an insertion moves bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """One job that waits. key: jobs of one key may run as a batch."""

    id: str
    item: T
    flow: Flow[T]
    key: Hashable
    deadline_ns: int
    cost_ns: int
    """Of server time: its part of a batch, or the whole run."""
    latest_start_ns: int
    number: int
    """Of arrival."""


class Flow(Generic[T]):
    """tag: virtual start (ns of service per weight) of the job that the tenant has served next."""

    def __init__(self, tenant: str, weight: float) -> None:
        self.tenant = tenant
        self.weight = weight
        self.tag = 0.0
        self.work_ns = 0
        """Of all that waits."""
        self.longest_ns = 0
        """At least the longest job that waits."""
        self._entries: list[Entry[T]] = []
        self._deadlines = array("q")
        self._costs = array("q")
        self._latest_starts = array("q")

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def first(self) -> Entry[T]:
        return self._entries[0]

    @property
    def last(self) -> Entry[T]:
        return self._entries[-1]

    @property
    def end_tag(self) -> float:
        """Where its next job would begin if all that waits were served."""
        return self.tag + self.work_ns / self.weight

    def place(self, deadline_ns: int) -> int:
        """Where a newcomer goes: behind those of the same deadline."""
        return bisect_right(self._deadlines, deadline_ns)

    def insert(self, place: int, entry: Entry[T]) -> None:
        self._entries.insert(place, entry)
        self._deadlines.insert(place, entry.deadline_ns)
        self._costs.insert(place, entry.cost_ns)
        self._latest_starts.insert(place, entry.latest_start_ns)
        self.work_ns += entry.cost_ns
        self.longest_ns = max(self.longest_ns, entry.cost_ns)

    def remove(self, entry: Entry[T]) -> None:
        place = self._entries.index(entry, bisect_left(self._deadlines, entry.deadline_ns))
        del self._entries[place], self._deadlines[place], self._costs[place], self._latest_starts[place]
        self.work_ns -= entry.cost_ns
        if not self._entries:
            self.longest_ns = 0

    def charge(self, service_ns: float) -> None:
        self.tag += service_ns / self.weight

    def behind(self, place: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Costs and latest starts, ns, of what waits from `place` on, each (n,), copied; n at least 1."""
        return np.frombuffer(self._costs[place:], np.int64), np.frombuffer(self._latest_starts[place:], np.int64)
