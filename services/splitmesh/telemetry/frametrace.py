"""Owns one frame's trace in one process: cheap records on the frame path, real spans only if the frame is kept.

Spans are buffered as tuples until `finish(keep=…)`. Head-sampled frames and those that the caller wants kept are
handed over as they are; the others are forgotten. Nothing here touches a file, a socket or the OpenTelemetry SDK.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from splitmesh.telemetry.context import format_traceparent, new_span_id
from splitmesh.telemetry.spanrow import FRAME_ID, SpanRow, plain_attributes

Attributes = Mapping[str, Any]
Recorded = tuple[str, int, int, Attributes | None, int, int]
"""name, start_ns, end_ns, attributes, span id (0: any), parent span id (0: the trace's first span here)."""
_LOW_64 = (1 << 64) - 1
Take = Callable[["FrameTrace", list[Recorded]], None]


class FrameTrace:
    """One frame's spans in this process. Any thread may add spans; exactly one calls `finish`."""

    __slots__ = (
        "_always_logged",
        "_always_taken",
        "_events",
        "_finished",
        "_kept",
        "_name",
        "_parent_id",
        "_reserved",
        "_root_id",
        "_spans",
        "_take",
        "_trace_id",
        "error",
        "frame_id",
        "head_sampled",
        "owner",
        "start_ns",
    )

    def __init__(
        self,
        take: Take,
        name: str,
        frame_id: str,
        start_ns: int,
        trace_id: int,
        parent_id: int,
        head_sampled: bool,
        always_logged: bool,
        always_taken: bool = False,
    ) -> None:
        self._take = take
        self._name = name
        self._trace_id = trace_id
        self._root_id = new_span_id()
        self._parent_id = parent_id
        self._spans: list[Recorded] = []
        self._events: list[tuple[str, int, Attributes | None]] = []
        self._reserved: tuple[str, int] | None = None
        self._always_logged = always_logged
        self._always_taken = always_taken or always_logged
        self._finished = False
        self._kept = False
        self.frame_id = frame_id
        self.start_ns = start_ns
        self.head_sampled = head_sampled
        self.owner = ""
        """Whose frame it is, where several may have one of that id."""
        self.error = ""

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return f"{self._trace_id:032x}"

    @property
    def kept(self) -> bool:
        """True once the trace has been finished and its spans will be exported."""
        return self._kept

    @property
    def logged(self) -> bool:
        """True once the trace has been finished and its spans belong into the span log."""
        return self._kept or (self._finished and self._always_logged)

    def span(self, name: str, start_ns: int, end_ns: int, attributes: Attributes | None = None) -> None:
        """Record a finished child span. After `finish`, a kept trace still takes late ones, a dropped one none."""
        span_id = 0
        if self._reserved is not None and self._reserved[0] == name:
            span_id = self._reserved[1]
            self._reserved = None
        self._record((name, start_ns, end_ns, attributes, span_id, 0))

    def child(self, name: str, start_ns: int | None = None) -> ChildSpan:
        """Open a child span that can have children of its own; it is recorded when its `end` is called."""
        return ChildSpan(self, name, time.monotonic_ns() if start_ns is None else start_ns, new_span_id())

    def event(self, name: str, at_ns: int, attributes: Attributes | None = None) -> None:
        """Note a moment on the trace's first span ("timer fired", "nack")."""
        if not self._finished:
            self._events.append((name, at_ns, attributes))

    def traceparent(self, span: str = "offload") -> str:
        """Header for another process, whose spans will hang below the next span recorded here under that name."""
        if self._reserved is None:
            self._reserved = (span, new_span_id())
        return format_traceparent(self._trace_id, self._reserved[1], is_sampled=self.head_sampled)

    def finish(
        self, end_ns: int, *, keep: bool = False, attributes: Attributes | None = None, error: str = ""
    ) -> bool:
        """Close the trace's first span; True if the spans are kept. A second call does nothing.

        `keep`: export although head sampling said no (a miss, a resume). `error`: marks the span as failed.
        """
        if self._finished:
            return self._kept
        self._finished = True
        self._kept = self.head_sampled or keep
        if self._kept or self._always_taken:
            self.error = error
            first = {FRAME_ID: self.frame_id, **attributes} if attributes else {FRAME_ID: self.frame_id}
            self._spans.append((self._name, self.start_ns, end_ns, first, self._root_id, self._parent_id))
            self._take(self, self._spans)
        self._spans = []
        return self._kept

    def keep(self) -> None:
        """A finished trace is kept after all; what was handed over of it must be exported by who calls this."""
        self._kept = self._kept or self._finished

    def rows(self, spans: list[Recorded], *, service: str, instance: str, offset_ns: int) -> list[SpanRow]:
        """Handed-over records as finished spans; `offset_ns` takes monotonic to Unix time."""
        return [self._row(span, service, instance, offset_ns) for span in spans]

    def _row(self, span: Recorded, service: str, instance: str, offset_ns: int) -> SpanRow:
        name, start_ns, end_ns, attributes, span_id, parent_id = span
        first = span_id == self._root_id
        parent = parent_id if first else parent_id or self._root_id
        events = self._events if first else []
        return SpanRow(
            trace_id=self.trace_id,
            span_id=f"{span_id or self._leaf_id(span):016x}",
            parent_id=f"{parent:016x}" if parent else None,
            name=name,
            service=service,
            instance=instance,
            start_unix_ns=start_ns + offset_ns,
            end_unix_ns=max(start_ns, end_ns) + offset_ns,
            attributes=plain_attributes(attributes),
            events=[
                {"name": text, "unix_ns": at_ns + offset_ns, "attributes": plain_attributes(facts)}
                for text, at_ns, facts in events
            ],
            error=self.error if first else "",
        )

    def _leaf_id(self, span: Recorded) -> int:
        """The same whenever it is asked for: log, collector and whoever asks later are told one id."""
        name, start_ns, end_ns, _, _, parent_id = span
        return hash((self._root_id, name, start_ns, end_ns, parent_id)) & _LOW_64 or 1

    def _record(self, span: Recorded) -> None:
        if not self._finished:
            self._spans.append(span)
        elif self._kept or self._always_taken:
            self._take(self, [span])


class ChildSpan:
    """An open span below a FrameTrace (or below another ChildSpan)."""

    __slots__ = ("_id", "_name", "_parent_id", "_start_ns", "_trace")

    def __init__(self, trace: FrameTrace, name: str, start_ns: int, span_id: int, parent_id: int = 0) -> None:
        self._trace = trace
        self._name = name
        self._start_ns = start_ns
        self._id = span_id
        self._parent_id = parent_id

    def span(self, name: str, start_ns: int, end_ns: int, attributes: Attributes | None = None) -> None:
        self._trace._record((name, start_ns, end_ns, attributes, 0, self._id))

    def child(self, name: str, start_ns: int | None = None) -> ChildSpan:
        start = time.monotonic_ns() if start_ns is None else start_ns
        return ChildSpan(self._trace, name, start, new_span_id(), self._id)

    def traceparent(self) -> str:
        return format_traceparent(self._trace._trace_id, self._id, is_sampled=self._trace.head_sampled)

    def end(self, end_ns: int | None = None, attributes: Attributes | None = None) -> None:
        stop = time.monotonic_ns() if end_ns is None else end_ns
        self._trace._record((self._name, self._start_ns, stop, attributes, self._id, self._parent_id))
