"""Owns one trace per frame: cheap records on the frame path, spans only for frames that are kept, on another thread.

A frame's spans are buffered as tuples until `finish(keep=…)`. Head-sampled frames and those that the caller wants
kept are handed to the sink thread, which writes the span log and feeds the collector; the others are forgotten.
Times in are monotonic nanoseconds of this process; the offset to wall clock is measured once, at the start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splitmesh.telemetry.context import (
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    sampled,
)
from splitmesh.telemetry.spanlog import DEFAULT_MAX_BYTES, SpanLog
from splitmesh.telemetry.spanrow import FRAME_ID, SpanRow, plain_attributes

_log = logging.getLogger(__name__)

Attributes = Mapping[str, Any]
_Recorded = tuple[str, int, int, Attributes | None, int, int]
"""name, start_ns, end_ns, attributes, span id (0: any), parent span id (0: the trace's first span here)."""

_POLL_S = 0.2
_QUEUE_TRACES = 4096


class FrameTrace:
    """One frame's spans in this process. Any thread may add spans; exactly one calls `finish`."""

    __slots__ = (
        "_always_logged",
        "_events",
        "_finished",
        "_kept",
        "_name",
        "_parent_id",
        "_reserved",
        "_root_id",
        "_spans",
        "_trace_id",
        "_tracing",
        "error",
        "frame_id",
        "head_sampled",
        "start_ns",
    )

    def __init__(
        self,
        tracing: Tracing,
        name: str,
        frame_id: str,
        start_ns: int,
        trace_id: int,
        parent_id: int,
        head_sampled: bool,
        always_logged: bool,
    ) -> None:
        self._tracing = tracing
        self._name = name
        self._trace_id = trace_id
        self._root_id = new_span_id()
        self._parent_id = parent_id
        self._spans: list[_Recorded] = []
        self._events: list[tuple[str, int, Attributes | None]] = []
        self._reserved: tuple[str, int] | None = None
        self._always_logged = always_logged
        self._finished = False
        self._kept = False
        self.frame_id = frame_id
        self.start_ns = start_ns
        self.head_sampled = head_sampled
        self.error = ""

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return f"{self._trace_id:032x}"

    @property
    def kept(self) -> bool:
        """True once the trace has been finished and its spans will be exported."""
        return self._kept

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
        if self._kept or self._always_logged:
            self.error = error
            first = {FRAME_ID: self.frame_id, **attributes} if attributes else {FRAME_ID: self.frame_id}
            self._spans.append((self._name, self.start_ns, end_ns, first, self._root_id, self._parent_id))
            self._tracing._take(self, self._spans)
        self._spans = []
        return self._kept

    def _record(self, span: _Recorded) -> None:
        if not self._finished:
            self._spans.append(span)
        elif self._kept or self._always_logged:
            self._tracing._take(self, [span])


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


class Tracing:
    """Starts traces and runs the sink thread. `close` flushes; a process that is killed loses at most 0.5 s."""

    def __init__(
        self,
        service: str,
        *,
        instance: str,
        sample_ratio: float = 1.0,
        span_log: Path | None = None,
        otlp_endpoint: str | None = None,
        span_log_max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """`span_log`: folder of the span log, None for none. `otlp_endpoint`: None lets OTEL_* variables decide."""
        from splitmesh.telemetry.otlp import OtlpExport, otlp_wanted

        self.service = service
        self.instance = instance
        self.sample_ratio = sample_ratio
        self.dropped_traces = 0
        self._offset_ns = wall_offset_ns()
        self._log = SpanLog(span_log, service, instance, max_bytes=span_log_max_bytes) if span_log else None
        self._otlp = (
            OtlpExport(otlp_endpoint, service=service, instance=instance) if otlp_wanted(otlp_endpoint) else None
        )
        self._recording = self._log is not None or self._otlp is not None
        self._queue: deque[tuple[FrameTrace, list[_Recorded]]] = deque()
        self._stop = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="span-sink", daemon=True)
        if self._recording:
            self._thread.start()

    @property
    def spans_written(self) -> int:
        """Spans in the span log so far."""
        return self._log.written if self._log else 0

    @property
    def spans_dropped(self) -> int:
        """Spans that a full or unwritable disk cost."""
        return self._log.dropped if self._log else 0

    def start_frame(self, frame_id: str, start_ns: int | None = None, *, name: str = "frame") -> FrameTrace:
        """Begin a frame's trace at `start_ns` (monotonic; None: now)."""
        trace_id = new_trace_id()
        start = time.monotonic_ns() if start_ns is None else start_ns
        return FrameTrace(self, name, frame_id, start, trace_id, 0, sampled(trace_id, self.sample_ratio), False)

    def continue_trace(
        self, traceparent: str | None, start_ns: int | None = None, *, frame_id: str = "", name: str = "worker"
    ) -> FrameTrace:
        """Go on with a caller's trace; its first span here is `name`, below the caller's span.

        Without a valid header this is a trace of its own. The span log always takes it, because the caller may keep
        the frame after we are done; the collector gets it if the caller sampled it or `finish(keep=True)`.
        """
        parent = parse_traceparent(traceparent)
        start = time.monotonic_ns() if start_ns is None else start_ns
        if parent is None:
            trace_id = new_trace_id()
            return FrameTrace(self, name, frame_id, start, trace_id, 0, sampled(trace_id, self.sample_ratio), True)
        return FrameTrace(self, name, frame_id, start, parent.trace_id, parent.span_id, parent.sampled, True)

    def close(self, timeout_s: float = 3.0) -> None:
        """Write what is queued, flush to the collector for at most `timeout_s`, close the log. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._stop.set()
        if self._recording:
            self._thread.join(timeout_s)
        if self._otlp is not None:
            self._otlp.close(timeout_s)

    def _take(self, trace: FrameTrace, spans: list[_Recorded]) -> None:
        if not self._recording or self._closed:
            return
        if len(self._queue) >= _QUEUE_TRACES:
            self.dropped_traces += 1
            return
        self._queue.append((trace, spans))

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(_POLL_S)
            try:
                self._sink()
            except Exception:  # noqa: BLE001 - the sink must outlive any bad attribute; it says what was lost
                _log.exception("span sink failed; its spans are lost")
        if self._log is not None:
            self._log.close()

    def _sink(self) -> None:
        while self._queue:
            logged: list[SpanRow] = []
            exported: list[SpanRow] = []
            while self._queue and len(logged) < 1024:
                trace, spans = self._queue.popleft()
                rows = self._rows(trace, spans)
                logged += rows
                if trace._kept:
                    exported += rows
            if self._log is not None:
                self._log.write(logged, time.monotonic_ns())
            if self._otlp is not None:
                self._otlp.emit(exported)

    def _rows(self, trace: FrameTrace, spans: list[_Recorded]) -> list[SpanRow]:
        offset = self._offset_ns
        rows = []
        for name, start_ns, end_ns, attributes, span_id, parent_id in spans:
            first = span_id == trace._root_id
            parent = parent_id if first else parent_id or trace._root_id
            rows.append(
                SpanRow(
                    trace_id=f"{trace._trace_id:032x}",
                    span_id=f"{span_id or new_span_id():016x}",
                    parent_id=f"{parent:016x}" if parent else None,
                    name=name,
                    service=self.service,
                    instance=self.instance,
                    start_unix_ns=start_ns + offset,
                    end_unix_ns=max(start_ns, end_ns) + offset,
                    attributes=plain_attributes(attributes),
                    events=[
                        {"name": text, "unix_ns": at_ns + offset, "attributes": plain_attributes(facts)}
                        for text, at_ns, facts in trace._events
                    ]
                    if first
                    else [],
                    error=trace.error if first else "",
                )
            )
        return rows


def wall_offset_ns() -> int:
    """Unix time minus monotonic time, from the reading with the tightest bracket of nine."""
    best_width = best_offset = 1 << 62
    for _ in range(9):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        if after - before < best_width:
            best_width, best_offset = after - before, wall - (before + after) // 2
    return best_offset
