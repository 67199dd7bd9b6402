"""Owns trace identity: random ids, the sampling verdict that an id implies, and the W3C `traceparent` header."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LOW_64 = (1 << 64) - 1
_random = random.Random(random.SystemRandom().getrandbits(256))


@dataclass(frozen=True, slots=True)
class ParentContext:
    """What a valid `traceparent` says: the trace, the caller's span, and whether the caller sampled the trace."""

    trace_id: int
    span_id: int
    sampled: bool


def new_trace_id() -> int:
    """Random, 128 bit, never 0 (0 means "no trace" in W3C trace context)."""
    return _random.getrandbits(128) or 1


def new_span_id() -> int:
    """Random, 64 bit, never 0."""
    return _random.getrandbits(64) or 1


def sampled(trace_id: int, ratio: float) -> bool:
    """True for the share `ratio` in [0, 1] of ids; the same rule as OpenTelemetry's TraceIdRatioBased sampler."""
    return (trace_id & _LOW_64) < round(ratio * (1 << 64))


def format_traceparent(trace_id: int, span_id: int, *, is_sampled: bool) -> str:
    """`00-<trace id>-<span id>-<flags>` (W3C Trace Context, level 1)."""
    return f"00-{trace_id:032x}-{span_id:016x}-{'01' if is_sampled else '00'}"


def parse_traceparent(header: str | None) -> ParentContext | None:
    """The caller's context, or None when there is no header or it is not valid.

    Headers of versions above 00 are read as version 00 when they start like one (W3C Trace Context, section 4.3).
    """
    match = _TRACEPARENT.fullmatch(header) if header and len(header) <= 512 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest):
        return None
    if int(trace_id, 16) == 0 or int(span_id, 16) == 0:
        return None
    return ParentContext(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1))
