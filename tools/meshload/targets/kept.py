"""Owns what a target has made of payloads and will send again. Bounded in number and bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from meshload.target import Payload

MAX_KEPT: Final = 4096
MAX_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Of payloads and what was made of them. A replay brings each payload once, and its recording may be larger than
memory."""

T = TypeVar("T")


class Kept(Generic[T]):
    """What `make` gives for each payload, made once. What finds no more room is made anew every time, but the first
    always finds it."""

    def __init__(self, make: Callable[[Payload], T], size_bytes: Callable[[T], int]) -> None:
        self._make, self._size_bytes = make, size_bytes
        self._kept: dict[Payload, T] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, payload: Payload) -> T:
        """Raises what `make` raises."""
        try:
            return self._kept[payload]
        except KeyError:
            pass
        made = self._make(payload)
        size = len(payload.data) + len(payload.raw) + self._size_bytes(made)
        if not self._kept or (len(self._kept) < MAX_KEPT and self.bytes + size <= MAX_KEPT_BYTES):
            self._kept[payload] = made
            self.bytes += size
        return made
