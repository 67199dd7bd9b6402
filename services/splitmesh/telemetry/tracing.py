"""Owns the way of traces out of the frame path: which are sampled, and the thread that writes and exports them.

Times in are monotonic nanoseconds of this process; the offset to wall clock is measured once, at the start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from pathlib import Path

from splitmesh.telemetry.context import new_trace_id, parse_traceparent, sampled
from splitmesh.telemetry.frametrace import FrameTrace, Recorded
from splitmesh.telemetry.recent import RecentSpans
from splitmesh.telemetry.spanlog import DEFAULT_MAX_BYTES, SpanLog
from splitmesh.telemetry.spanrow import SpanRow

__all__ = ["FrameTrace", "Tracing", "wall_offset_ns"]

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_QUEUE_TRACES = 4096


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
        recent_frames: int = 0,
    ) -> None:
        """`span_log`: folder of the span log, None for none. `otlp_endpoint`: None lets OTEL_* variables decide.

        `recent_frames`: of how many frames the spans are remembered in memory, sampled or not; see `recent_rows`.
        """
        from splitmesh.telemetry.otlp import OtlpExport, otlp_wanted

        self.service = service
        self.instance = instance
        self.sample_ratio = sample_ratio
        self._unqueued = 0
        """Spans that found the queue to the sink full."""
        self._offset_ns = wall_offset_ns()
        self._log = SpanLog(span_log, service, instance, max_bytes=span_log_max_bytes) if span_log else None
        self._otlp = (
            OtlpExport(otlp_endpoint, service=service, instance=instance) if otlp_wanted(otlp_endpoint) else None
        )
        self._recording = self._log is not None or self._otlp is not None
        self._queue: deque[tuple[FrameTrace, list[Recorded], bool, bool]] = deque()
        """The last two: whether they are for the span log, and for the collector."""
        self._recent = RecentSpans(recent_frames) if recent_frames else None
        self._stop = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="span-sink", daemon=True)
        if self._recording:
            self._thread.start()

    @property
    def exports(self) -> bool:
        """There is a collector to send to."""
        return self._otlp is not None

    @property
    def spans_written(self) -> int:
        """Spans in the span log so far."""
        return self._log.written if self._log else 0

    @property
    def spans_dropped(self) -> int:
        """Spans that a slow, full or unwritable disk cost, or a collector that is gone or too slow."""
        return self._unqueued + (self._log.dropped if self._log else 0) + (self._otlp.dropped if self._otlp else 0)

    def start_frame(self, frame_id: str, start_ns: int | None = None, *, name: str = "frame") -> FrameTrace:
        """Begin a frame's trace at `start_ns` (monotonic; None: now)."""
        trace_id = new_trace_id()
        start = time.monotonic_ns() if start_ns is None else start_ns
        is_sampled = sampled(trace_id, self.sample_ratio)
        taken = self._recent is not None
        return FrameTrace(self._take, name, frame_id, start, trace_id, 0, is_sampled, False, taken)

    def continue_trace(
        self,
        traceparent: str | None,
        start_ns: int | None = None,
        *,
        frame_id: str = "",
        name: str = "worker",
        owner: str = "",
    ) -> FrameTrace:
        """Go on with a caller's trace; its first span here is `name`, below the caller's span.

        Without a valid header this is a trace of its own. The span log always takes it, because the caller may keep
        the frame after we are done; the collector gets it if the caller sampled it or `finish(keep=True)`.
        `owner`: who alone may ask for it by `recent_rows`.
        """
        parent = parse_traceparent(traceparent)
        start = time.monotonic_ns() if start_ns is None else start_ns
        if parent is None:
            trace_id = new_trace_id()
            is_sampled, span_id = sampled(trace_id, self.sample_ratio), 0
        else:
            trace_id, span_id, is_sampled = parent.trace_id, parent.span_id, parent.sampled
        trace = FrameTrace(self._take, name, frame_id, start, trace_id, span_id, is_sampled, True)
        trace.owner = owner
        return trace

    def recent_rows(self, frame_id: str, *, owner: str = "") -> list[SpanRow]:
        """What is remembered of a frame of `owner` that was finished lately, oldest start first. From any thread."""
        if self._recent is None:
            return []
        key = (owner, frame_id)
        return self._recent.rows(key, service=self.service, instance=self.instance, offset_ns=self._offset_ns)

    def keep(self, frame_id: str, *, owner: str = "") -> bool:
        """Export what is remembered of a frame that nobody sampled, now that its caller keeps it. From any thread.

        False: nothing is remembered of it (any more), or it is exported anyway, or there is no collector.
        """
        if self._recent is None or self._otlp is None or self._closed:
            return False
        held = [(trace, spans) for trace, spans in self._recent.held((owner, frame_id)) if not trace.kept]
        for trace in {id(trace): trace for trace, _ in held}.values():
            trace.keep()
        for trace, spans in held:
            if len(self._queue) >= _QUEUE_TRACES:
                self._unqueued += len(spans)
            else:
                self._queue.append((trace, spans, False, True))
        return bool(held)

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

    def _take(self, trace: FrameTrace, spans: list[Recorded]) -> None:
        if self._recent is not None:
            self._recent.add(trace, spans)
        if not self._recording or self._closed or not trace.logged:
            return
        if len(self._queue) >= _QUEUE_TRACES:
            self._unqueued += len(spans)
            return
        self._queue.append((trace, spans, True, trace.kept))

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
            while self._queue and len(logged) + len(exported) < 2048:
                trace, spans, is_logged, is_exported = self._queue.popleft()
                rows = trace.rows(spans, service=self.service, instance=self.instance, offset_ns=self._offset_ns)
                if is_logged:
                    logged += rows
                if is_exported:
                    exported += rows
            if self._log is not None:
                self._log.write(logged, time.monotonic_ns())
            if self._otlp is not None:
                self._otlp.emit(exported)


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
