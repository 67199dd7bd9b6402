"""Owns the spans of the frames that were finished last, in memory, for whoever asks soon. Bounded; writes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from splitmesh.telemetry.frametrace import FrameTrace, Recorded
from splitmesh.telemetry.spanrow import SpanRow
from splitmesh.wire.control import MAX_KINDS, MAX_NAME_CHARS, MAX_TEXT_CHARS, SpanReport

MAX_SPANS_PER_FRAME = 128
"""More of one frame are left out: each takes part in no frame's work, and all of them in one message."""


class RecentSpans:
    """Of the last `frames` frames. Any thread may add and ask.

    A frame may have several traces here: a worker that is asked twice for one has two.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], list[tuple[FrameTrace, list[Recorded]]]] = {}
        """By owner and frame id, the oldest frame first."""

    def __len__(self) -> int:
        return len(self._held)

    def add(self, trace: FrameTrace, spans: list[Recorded]) -> None:
        """Of a trace that is finished, or late ones of it. Frames without an id are not kept."""
        if not trace.frame_id or self._frames < 1:
            return
        key = (trace.owner, trace.frame_id)
        with self._lock:
            held = self._held.get(key)
            if held is None:
                while len(self._held) >= self._frames:
                    del self._held[next(iter(self._held))]
                held = self._held[key] = []
            if sum(len(some) for _, some in held) + len(spans) <= MAX_SPANS_PER_FRAME:
                held.append((trace, spans))

    def held(self, key: tuple[str, str]) -> list[tuple[FrameTrace, list[Recorded]]]:
        """Of an owner's frame, as it was added."""
        with self._lock:
            return list(self._held.get(key, ()))

    def rows(self, key: tuple[str, str], *, service: str, instance: str, offset_ns: int) -> list[SpanRow]:
        """Of an owner's frame, oldest start first; empty for one that is not known (any more)."""
        found = [
            row
            for trace, spans in self.held(key)
            for row in trace.rows(spans, service=service, instance=instance, offset_ns=offset_ns)
        ]
        return sorted(found, key=lambda row: row.start_unix_ns)


def span_reports(rows: Iterable[SpanRow]) -> list[SpanReport]:
    """The wire form. Events of a span are left out, and attributes beyond what a message may hold."""
    return [
        SpanReport(
            trace_id=bytes.fromhex(row.trace_id),
            span_id=bytes.fromhex(row.span_id),
            parent_id=bytes.fromhex(row.parent_id or ""),
            name=row.name[:MAX_NAME_CHARS],
            service=row.service,
            instance=row.instance[:MAX_NAME_CHARS],
            start_unix_ns=row.start_unix_ns,
            end_unix_ns=row.end_unix_ns,
            attributes={
                name[:MAX_NAME_CHARS]: _shown(value) for name, value in list(row.attributes.items())[:MAX_KINDS]
            },
            error=row.error[:MAX_TEXT_CHARS],
        )
        for row in rows
    ]


def span_rows(reports: Iterable[SpanReport]) -> list[SpanRow]:
    """What `span_reports` was given, attributes as text. Oldest start first."""
    rows = [
        SpanRow(
            trace_id=report.trace_id.hex(),
            span_id=report.span_id.hex(),
            parent_id=report.parent_id.hex() or None,
            name=report.name,
            service=report.service,
            instance=report.instance,
            start_unix_ns=report.start_unix_ns,
            end_unix_ns=report.end_unix_ns,
            attributes=dict(report.attributes),
            error=report.error,
        )
        for report in reports
    ]
    return sorted(rows, key=lambda row: row.start_unix_ns)


def _shown(value: object) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:MAX_TEXT_CHARS]
