"""Owns a bounded list of members that are there or gone, ordered so that finding the silent ones costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Member(Protocol):
    heard_ns: int


M = TypeVar("M", bound=Member)


class Roster(Generic[M]):
    """At most `limit` members, the gone ones included. One that is gone makes room for a newcomer, the one that went
    first before the others; one that is there does not."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._present: dict[str, M] = {}
        """By when they were last heard, the most silent first."""
        self._gone: dict[str, M] = {}
        """By when they went."""

    def __len__(self) -> int:
        return len(self._present) + len(self._gone)

    def get(self, name: str) -> M | None:
        return self._present.get(name) or self._gone.get(name)

    def is_gone(self, name: str) -> bool:
        return name in self._gone

    def admit(self, name: str, member: M) -> bool:
        """A newcomer. False: there is no room."""
        if len(self) >= self._limit:
            if not self._gone:
                return False
            del self._gone[next(iter(self._gone))]
        self._present[name] = member
        return True

    def heard(self, name: str, now_ns: int) -> None:
        """A member that is known, there or gone, was heard."""
        member = self._present.pop(name, None) or self._gone.pop(name)
        member.heard_ns = now_ns
        self._present[name] = member

    def leave(self, name: str) -> None:
        """A member that is there goes."""
        self._gone[name] = self._present.pop(name)

    def lose(self, before_ns: int) -> Iterator[tuple[str, M]]:
        """Those last heard before then go."""
        while self._present:
            name, member = next(iter(self._present.items()))
            if member.heard_ns >= before_ns:
                return
            self.leave(name)
            yield name, member

    def forget(self, before_ns: int) -> None:
        """Forget those that are gone and were last heard before then."""
        for name in [name for name, member in self._gone.items() if member.heard_ns < before_ns]:
            del self._gone[name]

    def items(self) -> list[tuple[str, M]]:
        """By name."""
        return sorted([*self._present.items(), *self._gone.items()], key=lambda item: item[0])
