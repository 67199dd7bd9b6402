"""Owns where the spans of one frame lie beside each other when their processes' clocks disagree. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from splitmesh.v1 import control_pb2 as pb

MAX_SPANS = 200
_UNANSWERED = ("splitmesh.abandoned", "splitmesh.withdrawn", "splitmesh.failed")
"""Attributes of an offload that ended before its worker did: the worker's spans may rightly end after it."""


@dataclass(frozen=True, slots=True)
class PlacedSpan:
    """One span. Times are milliseconds since the frame's first span began."""

    span: pb.SpanReport
    depth: int
    start_ms: float
    duration_ms: float
    moved_ms: float
    """How far the clock of its process was moved to fit into the span that caused it; 0: it fitted."""


def waterfall(spans: Sequence[pb.SpanReport]) -> list[PlacedSpan]:
    """At most MAX_SPANS spans as a tree, depth first, siblings in order of start. Of several with one id the first.

    Spans of another process than their parent's are moved together, and only as far as causality demands: a request
    can't be served before it was sent, nor after its answer came. Where it sticks out it is put in the middle, as if
    both ways took equally long (Cristian, Probabilistic clock synchronization, 1989).
    """
    by_id: dict[bytes, pb.SpanReport] = {}
    for span in sorted(spans, key=lambda span: (span.start_unix_ns, span.end_unix_ns))[:MAX_SPANS]:
        by_id.setdefault(span.span_id, span)
    kept = list(by_id.values())
    shift_ns = _shifts(kept, by_id)
    start_ns = min((span.start_unix_ns + shift_ns[_process(span)] for span in kept), default=0)
    children: dict[bytes, list[pb.SpanReport]] = defaultdict(list)
    for span in kept:
        has_parent = span.parent_id in by_id and span.parent_id != span.span_id
        children[span.parent_id if has_parent else b""].append(span)
    placed: list[PlacedSpan] = []
    todo = [(span, 0) for span in reversed(children[b""])]
    while todo:
        span, depth = todo.pop()
        moved_ns = shift_ns[_process(span)]
        placed.append(
            PlacedSpan(
                span,
                depth,
                (span.start_unix_ns + moved_ns - start_ns) / 1e6,
                max(span.end_unix_ns - span.start_unix_ns, 0) / 1e6,
                moved_ns / 1e6,
            )
        )
        below = sorted(children.get(span.span_id, []), key=lambda each: each.start_unix_ns)
        todo += [(child, depth + 1) for child in reversed(below)]
    return placed


def _process(span: pb.SpanReport) -> tuple[str, str]:
    return span.service, span.instance


def _shifts(spans: Sequence[pb.SpanReport], by_id: dict[bytes, pb.SpanReport]) -> dict[tuple[str, str], int]:
    """Nanoseconds to add to the times of each process. That of the first span without a parent stands still."""
    shifts: dict[tuple[str, str], int] = {}
    root = next((span for span in spans if not span.parent_id), None)
    if root is not None:
        shifts[_process(root)] = 0
    waiting = [
        span for span in spans if span.parent_id in by_id and _process(span) != _process(by_id[span.parent_id])
    ]
    while waiting:
        ready = [span for span in waiting if _process(by_id[span.parent_id]) in shifts]
        if not ready:
            break
        for span in ready:
            parent = by_id[span.parent_id]
            shifts.setdefault(_process(span), _shift(span, parent, shifts[_process(parent)]))
        waiting = [span for span in waiting if span not in ready]
    return defaultdict(int, shifts)


def _shift(span: pb.SpanReport, parent: pb.SpanReport, parent_shift_ns: int) -> int:
    start_ns, end_ns = parent.start_unix_ns + parent_shift_ns, parent.end_unix_ns + parent_shift_ns
    if any(name in parent.attributes for name in _UNANSWERED):
        return max(start_ns - span.start_unix_ns, 0)
    if start_ns <= span.start_unix_ns and span.end_unix_ns <= end_ns:
        return 0
    slack_ns = (end_ns - start_ns) - (span.end_unix_ns - span.start_unix_ns)
    return start_ns + max(slack_ns, 0) // 2 - span.start_unix_ns
