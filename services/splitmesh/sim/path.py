"""Owns one direction of the link on virtual time: a first-in first-out server at the trace's rate, then its delay.

As the lab's emulated link: nothing is dropped, order is kept, and what would land during an outage lands right after
it. Where an outage cuts connections, what is under way when it begins, or is sent before it ends, is lost. A message
comes out when its last byte does.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from splitmesh.provision.link.trace import LinkTrace


class Path:
    """`start_s`: second of the trace at which the run begins."""

    def __init__(self, trace: LinkTrace, *, start_s: float = 0.0, seed: int = 0) -> None:
        self._trace = trace
        self._start_s = start_s
        self._cuts = sorted(outage for outage in trace.outages if outage.cut)
        self._random = np.random.Generator(np.random.PCG64([seed, 0x11]))
        self._free_s = start_s
        self._last_out_ns = 0
        self._waiting: deque[tuple[float, int]] = deque()
        """(when its last byte leaves, trace time; size), ascending."""
        self._queued_bytes = 0

    def send(self, size_bytes: int, now_ns: int) -> int | None:
        """When what is handed over now comes out, ns; None: never."""
        now_s = self._start_s + now_ns / 1e9
        begin_s = max(now_s, self._free_s)
        finish_s = self._trace.finish_s(begin_s, size_bytes) if begin_s < math.inf else math.inf
        out_s = self._landed_s(finish_s)
        cut = next((outage for outage in self._cuts if now_s < outage.end_s and outage.start_s < out_s), None)
        if cut is not None:
            finish_s = min(finish_s, max(cut.start_s, now_s))
        self._free_s = finish_s
        self._waiting.append((finish_s, size_bytes))
        self._queued_bytes += size_bytes
        if cut is not None or out_s == math.inf:
            return None
        self._last_out_ns = max(self._last_out_ns, now_ns, round((out_s - self._start_s) * 1e9))
        return self._last_out_ns

    def queued_bytes(self, now_ns: int) -> int:
        """Of messages that have not left whole."""
        now_s = self._start_s + now_ns / 1e9
        while self._waiting and self._waiting[0][0] <= now_s:
            self._queued_bytes -= self._waiting.popleft()[1]
        return self._queued_bytes

    def _landed_s(self, finish_s: float) -> float:
        if finish_s == math.inf:
            return math.inf
        step = self._trace.step_at(finish_s)
        jitter_ms = 0.0
        if step.jitter_ms:
            jitter_ms = min(step.jitter_ms * abs(self._random.standard_normal()), 3 * step.jitter_ms)
        out_s = finish_s + (step.delay_ms + jitter_ms) / 1e3
        outage = self._trace.outage_at(out_s)
        return outage.end_s if outage else out_s
