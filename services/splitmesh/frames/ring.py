"""Owns a bounded first-in first-out that drops its oldest item when full, and counts. Knows no thread."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Ring(Generic[T]):
    """Holds at most `capacity` items. Raises ValueError unless `capacity` is at least 1.

    `pushed`: items ever pushed. `dropped`: items ever displaced by newer ones.
    At any time `pushed = popped + dropped + len(ring)`.
    """

    __slots__ = ("_items", "capacity", "dropped", "pushed")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a ring needs a capacity of at least 1, not {capacity}")
        self._items: deque[T] = deque()
        self.capacity = capacity
        self.pushed = 0
        self.dropped = 0

    def push(self, item: T) -> T | None:
        """Append `item`; returns the oldest item if it had to make room, else None."""
        displaced: T | None = None
        if len(self._items) == self.capacity:
            displaced = self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self.pushed += 1
        return displaced

    def pop(self) -> T | None:
        """The oldest item, or None if there is none."""
        return self._items.popleft() if self._items else None

    @property
    def full(self) -> bool:
        """True if the next push drops an item."""
        return len(self._items) == self.capacity

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Ring({len(self)}/{self.capacity}, pushed={self.pushed}, dropped={self.dropped})"
