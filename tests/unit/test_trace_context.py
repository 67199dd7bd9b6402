"""W3C trace context: what is written can be read, and what is not valid is no context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from splitmesh.telemetry.context import (
    ParentContext,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    sampled,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@given(
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
)
def test_what_is_written_can_be_read(trace_id: int, span_id: int, is_sampled: bool) -> None:
    header = format_traceparent(trace_id, span_id, is_sampled=is_sampled)
    assert parse_traceparent(header) == ParentContext(trace_id, span_id, is_sampled)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01-" + "x" * 600,
    ],
)
def test_invalid_headers_are_no_context(header: str | None) -> None:
    assert parse_traceparent(header) is None


def test_a_later_version_is_read_as_version_00() -> None:
    assert parse_traceparent(f"42-{TRACE}-{SPAN}-03-more") == ParentContext(int(TRACE, 16), int(SPAN, 16), True)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_sampling_agrees_with_opentelemetry(ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio)
    ids = [new_trace_id() for _ in range(400)]
    for trace_id in ids:
        expected = theirs.should_sample(None, trace_id, "frame").decision.is_sampled()
        assert sampled(trace_id, ratio) is expected


def test_ids_do_not_repeat() -> None:
    assert len({new_trace_id() for _ in range(5000)}) == 5000
    assert len({new_span_id() for _ in range(5000)}) == 5000
