"""Owns the calibration tables that a worker decodes with: those of its own plan, and a bounded number sent to it.

A table that an edge sent serves that edge alone: four bytes name a table, and nobody's payload may be decoded with
what somebody else has sent. May be asked from any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping

from splitmesh.codec.compact.intra import check_expected
from splitmesh.codec.compact.table import CompactTable
from splitmesh.wire.requests import TableOffer

MAX_PER_EDGE = 8
MAX_SENT = 128
MAX_SENT_BYTES = 32 * 1024 * 1024

_Key = tuple[str, str, str, bytes]
"""edge, model, cut, first bytes of the id."""


class Tables:
    """Of one tenant. own: model and cut → the plan's table. Of sent ones at most `most`, of `most_bytes` together."""

    def __init__(
        self,
        own: Mapping[tuple[str, str], CompactTable],
        *,
        most: int = MAX_SENT,
        most_bytes: int = MAX_SENT_BYTES,
    ) -> None:
        self._own = dict(own)
        self._most = most
        self._most_bytes = most_bytes
        self._sent: OrderedDict[_Key, CompactTable] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def lookup(self, edge: str, model: str, cut: str) -> Callable[[bytes], CompactTable | None]:
        """The function that gives the table whose id starts with four bytes, None if it is not held for `edge`."""

        def find(short_id: bytes) -> CompactTable | None:
            own = self._own.get((model, cut))
            if own is not None and own.short_id == short_id:
                return own
            key = (edge, model, cut, bytes(short_id))
            with self._lock:
                if key in self._sent:
                    self._sent.move_to_end(key)
                return self._sent.get(key)

        return find

    def keep(self, offer: TableOffer, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Hold the table in `offer` for its edge; `shapes` are those of the tensors of its cut.

        The least recently used of the edge, then of all, makes room. Raises CodecError for what is no such table.
        """
        table = CompactTable.from_bytes(offer.table)
        check_expected(table, shapes)
        key = (offer.edge_id, offer.model, offer.cut, table.short_id)
        with self._lock:
            if key in self._sent:
                self._drop(key)
            self._sent[key] = table
            self._bytes += len(table.to_bytes())
            theirs = [each for each in self._sent if each[0] == offer.edge_id]
            for old in theirs[:-MAX_PER_EDGE]:
                self._drop(old)
            while len(self._sent) > self._most or self._bytes > self._most_bytes:
                self._drop(next(iter(self._sent)))

    def _drop(self, key: _Key) -> None:
        self._bytes -= len(self._sent.pop(key).to_bytes())

    def __len__(self) -> int:
        """Of the tables that were sent."""
        return len(self._sent)

    def __repr__(self) -> str:
        return f"<Tables own={len(self._own)} sent={len(self._sent)} bytes={self._bytes}>"
