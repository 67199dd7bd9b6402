"""Owns the conservation law: every captured frame is settled exactly once. Refuses double settlement."""

from __future__ import annotations

from collections import Counter

from splitmesh.errors import MeshError
from splitmesh.frames.outcome import Outcome


class LedgerError(MeshError):
    """A frame was captured twice, settled twice, or settled without being captured: a bug."""


class Ledger:
    """Counts frames by outcome. `seq` identifies a frame within one run of one edge."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._last_seq = -1
        self.captured = 0
        self.settled: Counter[Outcome] = Counter()

    def capture(self, seq: int) -> None:
        """Open frame `seq`. Sequence numbers grow strictly. Raises LedgerError otherwise."""
        if seq <= self._last_seq:
            raise LedgerError(f"frame {seq} captured after frame {self._last_seq}")
        self._last_seq = seq
        self._open.add(seq)
        self.captured += 1

    def settle(self, seq: int, outcome: Outcome) -> None:
        """Close frame `seq`. Raises LedgerError if it is not open."""
        if seq not in self._open:
            raise LedgerError(f"frame {seq} is not open and can't become {outcome}")
        self._open.remove(seq)
        self.settled[outcome] += 1

    def is_open(self, seq: int) -> bool:
        return seq in self._open

    @property
    def in_flight(self) -> int:
        return len(self._open)

    @property
    def conserved(self) -> bool:
        """True when every captured frame has exactly one outcome."""
        return not self._open and self.captured == self.settled.total()

    def counts(self) -> dict[str, int]:
        """`{"captured": n, "local": n, …, "expired": n}`, every key always present."""
        return {"captured": self.captured, **{o.value: self.settled[o] for o in Outcome}}

    def __repr__(self) -> str:
        inner = " ".join(f"{k}={v}" for k, v in self.counts().items())
        return f"<Ledger {inner} in_flight={self.in_flight}>"
