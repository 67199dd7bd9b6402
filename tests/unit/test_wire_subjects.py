"""Subjects and headers: names can't escape their place, budgets can't lie."""

from __future__ import annotations

import pytest

from splitmesh.errors import WireError
from splitmesh.wire import headers, subjects

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_grammar() -> None:
    assert subjects.infer("acme", "coco-ssdlite", "c3") == "sm.v1.acme.infer.coco-ssdlite.c3"
    assert subjects.infer("acme", "coco-ssdlite", "") == "sm.v1.acme.infer.coco-ssdlite.whole"
    assert subjects.worker("acme", "w_1") == "sm.v1.acme.worker.w_1"
    assert subjects.table("acme", "w_1") == "sm.v1.acme.worker.w_1.table"
    assert subjects.load("acme") == "sm.v1.acme.load"
    assert subjects.cancel("acme") == "sm.v1.acme.cancel"
    assert subjects.spans("acme", "w_1") == "sm.v1.acme.worker.w_1.spans"
    assert subjects.result("acme", "cam-1") == "sm.v1.acme.result.cam-1"
    assert subjects.preview("acme", "cam-1") == "sm.v1.acme.preview.cam-1"
    assert subjects.status("acme", "cam-1") == "sm.v1.acme.status.cam-1"
    assert subjects.statuses("acme") == "sm.v1.acme.status.*"
    assert subjects.command("acme", "cam-1") == "sm.v1.acme.edge.cam-1"


@pytest.mark.parametrize("token", ["", "a.b", "*", ">", "a b", "a\r\n", "é", "a" * 65])
def test_a_token_cannot_widen_a_subject(token: str) -> None:
    with pytest.raises(WireError, match="tenant"):
        subjects.load(token)
    with pytest.raises(WireError, match="model"):
        subjects.infer("t", token, "c")
    with pytest.raises(WireError, match="worker_id"):
        subjects.worker("t", token)
    with pytest.raises(WireError, match="worker_id"):
        subjects.spans("t", token)
    for of_edge in (subjects.result, subjects.preview, subjects.status, subjects.command):
        with pytest.raises(WireError, match="edge_id"):
            of_edge("t", token)
    if token:
        with pytest.raises(WireError, match="cut"):
            subjects.infer("t", "m", token)


def test_no_cut_may_be_called_whole() -> None:
    with pytest.raises(WireError, match="whole"):
        subjects.infer("t", "m", "whole")


OLD = {"traceparent": TRACE, "Nats-Msg-Id": "cam.r.1", "Sm-Budget-Us": "150000"}


def test_headers_of_older_edges_are_read() -> None:
    assert headers.traceparent(OLD) == TRACE
    assert headers.budget_us(OLD) == 150_000


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e3", " 5", "٣", "600000001", "9" * 13, "0x10"])
def test_lying_budget(text: str) -> None:
    with pytest.raises(WireError, match="Sm-Budget-Us"):
        headers.budget_us({headers.BUDGET_US: text})


def test_missing_headers() -> None:
    with pytest.raises(WireError, match="missing"):
        headers.budget_us({})
    assert headers.traceparent({}) is None


BAD_TRACES = ["", "junk", TRACE.upper(), TRACE + "0", "00-" + "0" * 32 + TRACE[35:], TRACE[:36] + "0" * 16 + "-01"]


@pytest.mark.parametrize("trace", BAD_TRACES)
def test_a_bad_trace_costs_no_frame(trace: str) -> None:
    assert headers.traceparent({headers.TRACEPARENT: trace}) is None


def test_a_trace_context_takes_25_bytes() -> None:
    raw = headers.trace_bytes(TRACE)
    assert len(raw) == headers.TRACE_BYTES and headers.trace_text(raw) == TRACE
    assert headers.trace_bytes(None) == b"" and headers.trace_text(b"") is None


@pytest.mark.parametrize("raw", [b"x" * 24, b"x" * 26, bytes(25), bytes(16) + b"x" * 9, b"x" * 16 + bytes(8) + b"x"])
def test_bad_trace_bytes_cost_no_frame(raw: bytes) -> None:
    assert headers.trace_text(raw) is None


@pytest.mark.parametrize("trace", BAD_TRACES)
def test_a_trace_that_cannot_be_read_back_is_not_sent(trace: str) -> None:
    with pytest.raises(WireError, match="traceparent"):
        headers.trace_bytes(trace)
