"""Owns one direction of the link on virtual time: a first-in first-out server at the trace's rate, then its delay.

As the lab's emulated link (`lab.link.shaper`): nothing is dropped, order is kept, jitter is drawn for each cell of
about a millisecond of the rate, and what would land during an outage lands right after it. Where an outage cuts
connections, what is under way when it begins, or is sent before it ends, is lost. A message comes out when its last
byte does.

Edges that share a link are served first in, first out by hand-over too. A modem has one buffer, and a message of no
more than a congestion window (ten segments, 14.6 kB: RFC 6928) enters it at once and whole. Larger ones of several
edges would interleave; that is not modelled.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage

_BLOCK = 128
_CELL_S = 1e-3
_LEAST_CELL_BYTES, _MOST_CELL_BYTES = 1448, 16 * 1024


class Path:
    """`start_s`: second of the trace at which the run begins."""

    def __init__(self, trace: LinkTrace, *, start_s: float = 0.0, seed: int = 0) -> None:
        self._trace = trace
        self._start_s = start_s
        self._cuts = sorted(outage for outage in trace.outages if outage.cut)
        self._jitters = _normals(seed)
        self._free_s = start_s
        self._last_out_ns = 0
        # The stretch of constant rate that was used last, [from, to) in trace time, and what holds in it.
        self._from_s, self._to_s = math.inf, -math.inf
        self._speed = 0.0
        self._step: Step = trace.steps[0]

    def send(self, size_bytes: int, now_ns: int) -> tuple[float, int | None]:
        """(when the last byte of what is handed over now leaves, trace time; when it comes out, ns, None: never)."""
        now_s = self._start_s + now_ns / 1e9
        begin_s = self._free_s if self._free_s > now_s else now_s
        finish_s = self._finish_s(begin_s, size_bytes) if begin_s < math.inf else math.inf
        out_s = self._landed_s(finish_s, size_bytes)
        cut = None
        if self._cuts:
            cut = next((outage for outage in self._cuts if now_s < outage.end_s and outage.start_s < out_s), None)
        if cut is not None:
            finish_s = min(finish_s, max(cut.start_s, now_s))
        self._free_s = finish_s
        if cut is not None or out_s == math.inf:
            return finish_s, None
        self._last_out_ns = max(self._last_out_ns, now_ns, round((out_s - self._start_s) * 1e9))
        return finish_s, self._last_out_ns

    def trace_s(self, now_ns: int) -> float:
        return self._start_s + now_ns / 1e9

    def _finish_s(self, begin_s: float, size_bytes: int) -> float:
        """As the trace says, without a walk where the message fits into the stretch at hand."""
        if not self._from_s <= begin_s < self._to_s:
            piece = next(self._trace.pieces(begin_s))
            self._from_s, self._to_s = piece.start_s, piece.end_s
            self._speed = piece.rate_bps / 8
            self._step = self._trace.step_at(begin_s)
        if self._speed > 0 and size_bytes <= self._speed * (self._to_s - begin_s):
            return begin_s + size_bytes / self._speed
        return self._trace.finish_s(begin_s, size_bytes)

    def _landed_s(self, finish_s: float, size_bytes: int) -> float:
        if finish_s == math.inf:
            return math.inf
        inside = self._from_s <= finish_s < self._to_s
        step = self._step if inside else self._trace.step_at(finish_s)
        jitter_ms = 0.0
        if step.jitter_ms:
            speed = self._speed if inside else step.rate_bps / 8
            jitter_ms = self._jitter_ms(step.jitter_ms, size_bytes, speed)
        out_s = finish_s + (step.delay_ms + jitter_ms) / 1e3
        outage = self._trace.outage_at(out_s) if self._trace.outages else None
        return outage.end_s if outage else out_s

    def _jitter_ms(self, sigma_ms: float, size_bytes: int, speed: float) -> float:
        """By how much the last of a message's cells comes late: its own jitter, or what an earlier one has beyond the
        time between them, as none overtakes another. speed: bytes a second, taken to hold for all of them.
        """
        most_ms = 3 * sigma_ms
        latest_ms = min(sigma_ms * abs(next(self._jitters)), most_ms)
        cell_bytes = min(max(int(speed * _CELL_S), _LEAST_CELL_BYTES), _MOST_CELL_BYTES)
        whole, last_bytes = divmod(size_bytes - 1, cell_bytes)
        ahead_ms = 1e3 * (last_bytes + 1) / speed if speed > 0 else math.inf
        for _ in range(whole):
            if latest_ms + ahead_ms >= most_ms:
                break
            latest_ms = max(latest_ms, min(sigma_ms * abs(next(self._jitters)), most_ms) - ahead_ms)
            ahead_ms += 1e3 * cell_bytes / speed
        return latest_ms


def _normals(seed: int) -> Iterator[float]:
    """Standard normal; drawn in blocks, as a call for each costs more than all else that a message takes."""
    random = np.random.Generator(np.random.PCG64([seed, 0x11]))
    while True:
        yield from random.standard_normal(_BLOCK).tolist()


class Lane:
    """One sender's way onto a path that others may share, and what of its own waits there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: deque[tuple[float, int]] = deque()
        """(when its last byte leaves, trace time; size), ascending."""
        self._queued_bytes = 0

    def send(self, size_bytes: int, now_ns: int) -> int | None:
        """When what is handed over now comes out, ns; None: never."""
        finish_s, out_ns = self._path.send(size_bytes, now_ns)
        self._waiting.append((finish_s, size_bytes))
        self._queued_bytes += size_bytes
        return out_ns

    def queued_bytes(self, now_ns: int) -> int:
        """Of messages that have not left whole."""
        now_s = self._path.trace_s(now_ns)
        while self._waiting and self._waiting[0][0] <= now_s:
            self._queued_bytes -= self._waiting.popleft()[1]
        return self._queued_bytes


class Uplink:
    """Both directions of a link that one edge has, or a group of edges shares. outages: on top of the trace's,
    counted from the run's start."""

    def __init__(self, trace: LinkTrace, outages: Sequence[Outage], *, start_s: float, seed: int) -> None:
        if outages:
            trace = trace.with_outages([replace(each, start_s=start_s + each.start_s) for each in outages])
        self._trace = trace
        self.up = Path(trace, start_s=start_s, seed=seed)
        self.down = Path(trace.downlink(), start_s=start_s, seed=seed + 1)

    def cut_at(self, now_ns: int) -> bool:
        """Whether connections are refused."""
        return bool(self._trace.outages) and self._trace.cut_at(self.up.trace_s(now_ns))
