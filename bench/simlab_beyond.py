"""Owns what messages of a lab run took beyond the emulated link. Simulations are given its median, not its spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.link.shaper import NEVER_NS, Shaper
from splitmesh.policy.payloads import MESSAGE_BYTES, STREAM_MESSAGE_BYTES
from splitmesh.policy.point import OperatingPoint
from splitmesh.provision.link.trace import LinkTrace

_REMOTE_PARTS = ("worker_queue", "decode", "tail", "postprocess")
_BEYOND_ALL_BYTES = 1 << 40
_REPLY_BYTES = 500


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """None for no values."""
    if not values:
        return None
    p5, p50, p95 = np.percentile(values, (5, 50, 95)).tolist()
    return {"p5": p5, "p50": p50, "p95": p95, "count": len(values)}


def beyond_link_ms(
    records: Sequence[FrameRecord], points: Mapping[str, OperatingPoint], trace: LinkTrace, *, start_s: float
) -> list[float]:
    """Of each frame that a worker answered: time on the network less what shapers make of all these messages and of
    their replies. What is left, both ways together, is sockets, broker, event loops, and messages that no answer
    tells of.
    """
    sent = []
    for record in records:
        point, took = points.get(record.point), record.times_ms
        if point is None or "network" not in took or record.latency_ms is None:
            continue
        if record.outcome is Outcome.SPLIT or record.outcome is Outcome.FRAME:
            remote_ms = sum(took.get(part, 0.0) for part in _REMOTE_PARTS)
            sent_ms = record.latency_ms - took["network"] - remote_ms
            around = STREAM_MESSAGE_BYTES if point.key_bytes else MESSAGE_BYTES
            at_s = start_s + record.captured_ns / 1e9 + sent_ms / 1e3
            sent.append((at_s, record.uplink_bytes + round(around), took["network"], remote_ms))
    up, down = _shaper(trace, seed=0), _shaper(trace.downlink(), seed=1)
    beyond = []
    for at_s, size_bytes, network_ms, remote_ms in sorted(sent):
        now_ns = round(at_s * 1e9)
        arrived_ns = up.take(size_bytes, now_ns=now_ns)[-1].exit_ns
        if arrived_ns < NEVER_NS:
            served_ns = arrived_ns + round(remote_ms * 1e6)
            back_ns = down.take(_REPLY_BYTES, now_ns=served_ns)[-1].exit_ns
            beyond.append(network_ms - (arrived_ns - now_ns + back_ns - served_ns) / 1e6)
    return beyond


def _shaper(trace: LinkTrace, *, seed: int) -> Shaper:
    shaper = Shaper(trace, queue_bytes=_BEYOND_ALL_BYTES, seed=seed)
    shaper.begin(0)
    return shaper
