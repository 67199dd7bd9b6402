"""Owns what a lab run shows that no simulation of it is given: where to look when the two disagree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.link.shaper import NEVER_NS, Shaper
from splitmesh.policy.payloads import MESSAGE_BYTES, STREAM_MESSAGE_BYTES
from splitmesh.policy.point import OperatingPoint
from splitmesh.provision.link.trace import LinkTrace

_REMOTE_PARTS = ("network", "worker_queue", "decode", "tail", "postprocess")
_BEYOND_ALL_BYTES = 1 << 40

_Ratio = Callable[[FrameRecord, OperatingPoint], float | None]
"""Measured by planned; None where the record says nothing of it."""


def causes(
    records: Sequence[FrameRecord], points: Mapping[str, OperatingPoint], trace: LinkTrace, *, start_s: float
) -> dict[str, Any]:
    """As JSON takes it: per codec how long encoders took and how large payloads were against the plan, how long a
    message took beyond what the emulated link asks of it, and how evenly frames came to their decision.

    `start_s`: second of the trace at which the run began.
    """
    return {
        "encode_by_codec": _by_codec(records, points, _encode_ratio),
        "bytes_by_codec": _by_codec(records, points, _size_ratio),
        "beyond_link_ms": quantiles(beyond_link_ms(records, points, trace, start_s=start_s)),
        "tracked_at_once_ms": quantiles(
            [r.latency_ms for r in records if r.point == "track" and r.latency_ms is not None]
        ),
    }


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """None for no values."""
    if not values:
        return None
    p5, p50, p95 = np.percentile(values, (5, 50, 95)).tolist()
    return {"p5": p5, "p50": p50, "p95": p95, "count": len(values)}


def beyond_link_ms(
    records: Sequence[FrameRecord], points: Mapping[str, OperatingPoint], trace: LinkTrace, *, start_s: float
) -> list[float]:
    """Of each frame that a worker answered: time on the network less what the shaper makes of all these messages, and
    less the way back. What is left is sockets, broker, event loops, and messages of which no answer tells.
    """
    sent = []
    for record in records:
        point, took = points.get(record.point), record.times_ms
        if point is None or "network" not in took or record.latency_ms is None:
            continue
        if record.outcome is Outcome.SPLIT or record.outcome is Outcome.FRAME:
            back_ms = sum(took.get(part, 0.0) for part in _REMOTE_PARTS)
            at_s = start_s + record.captured_ns / 1e9 + (record.latency_ms - back_ms) / 1e3
            around = STREAM_MESSAGE_BYTES if point.key_bytes else MESSAGE_BYTES
            sent.append((at_s, record.uplink_bytes + round(around), took["network"]))
    shaper = Shaper(trace, queue_bytes=_BEYOND_ALL_BYTES)
    shaper.begin(0)
    beyond = []
    for at_s, size_bytes, network_ms in sorted(sent):
        now_ns = round(at_s * 1e9)
        exit_ns = shaper.take(size_bytes, now_ns=now_ns)[-1].exit_ns
        if exit_ns < NEVER_NS:
            beyond.append(network_ms - (exit_ns - now_ns) / 1e6 - trace.delay_ms(exit_ns / 1e9))
    return beyond


def _encode_ratio(record: FrameRecord, point: OperatingPoint) -> float | None:
    took_ms = record.times_ms.get("encode")
    return took_ms / point.encode_ms if took_ms is not None and point.encode_ms > 0 else None


def _size_ratio(record: FrameRecord, point: OperatingPoint) -> float | None:
    """Of codecs without state: others send keys and coarser levels at will."""
    alone = record.uplink_bytes > 0 and not point.key_bytes
    return record.uplink_bytes / point.payload_bytes if alone and point.payload_bytes > 0 else None


def _by_codec(
    records: Sequence[FrameRecord], points: Mapping[str, OperatingPoint], ratio: _Ratio
) -> dict[str, dict[str, float] | None]:
    found: dict[str, list[float]] = defaultdict(list)
    for record in records:
        point = points.get(record.point)
        if point is not None and point.remote and (value := ratio(record, point)) is not None:
            found[point.codec].append(value)
    return {codec: quantiles(values) for codec, values in sorted(found.items())}
