"""Spans reach a real OTLP/HTTP endpoint as what they were; a dead collector costs nothing but spans."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_rig import grpc_collector

from splitmesh.telemetry.otlp import _EXPORT_TIMEOUT_S, QUEUE_SPANS, OtlpExport, otlp_wanted, traces_url
from splitmesh.telemetry.spanlog import read_spans
from splitmesh.telemetry.spanrow import SpanRow
from splitmesh.telemetry.tracing import Tracing


class Collector(http.server.ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.received: list[tuple[str, ExportTraceServiceRequest]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> dict[str, Span]:
        return {
            span.name: span
            for _, message in self.received
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


class _Receive(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Collector)
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def one_frame(tracing: Tracing, *, keep: bool = True) -> str:
    frame = tracing.start_frame("e1.r.7", 1000)
    frame.event("timer", 2500)
    frame.span("offload", 2000, 4000, {"splitmesh.bytes": 900, "splitmesh.codec": "u8zstd"})
    frame.finish(5000, keep=keep, attributes={"splitmesh.outcome": "resumed"}, error="too late")
    return frame.trace_id


def test_kept_frames_arrive_whole(collector: Collector) -> None:
    tracing = Tracing("edge", instance="e1", sample_ratio=0.0, otlp_endpoint=collector.url)
    trace_id = one_frame(tracing)
    one_frame(tracing, keep=False)
    tracing.close()
    assert {path for path, _ in collector.received} == {"/v1/traces"}
    spans = collector.spans()
    assert set(spans) == {"frame", "offload"}
    frame, offload = spans["frame"], spans["offload"]
    assert frame.trace_id.hex() == offload.trace_id.hex() == trace_id
    assert offload.parent_span_id == frame.span_id and frame.parent_span_id == b""
    assert offload.end_time_unix_nano - offload.start_time_unix_nano == 2000
    assert frame.status.code == Status.STATUS_CODE_ERROR and frame.events[0].name == "timer"
    assert {a.key: a.value.WhichOneof("value") for a in offload.attributes} == {
        "splitmesh.bytes": "int_value",
        "splitmesh.codec": "string_value",
    }
    assert offload.kind == Span.SPAN_KIND_CLIENT
    resource = collector.received[0][1].resource_spans[0].resource
    names = {a.key: a.value.string_value for a in resource.attributes}
    assert (names["service.name"], names["service.instance.id"]) == ("edge", "e1")


def test_the_standard_variable_names_a_collector_too(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not otlp_wanted(None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracing = Tracing("edge", instance="e1")
    one_frame(tracing)
    tracing.close()
    assert set(collector.spans()) == {"frame", "offload"}


def test_a_dead_collector_costs_spans_and_a_bounded_close(tmp_path: Path) -> None:
    tracing = Tracing("edge", instance="e1", otlp_endpoint="http://127.0.0.1:9", span_log=tmp_path)
    one_frame(tracing)
    started = time.monotonic()
    tracing.close(1.0)
    assert time.monotonic() - started < 4
    assert len(read_spans(tmp_path)) == 2, "the span log does not depend on the collector"


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp", "https://c/otlp/v1/traces"),
        ("http://c:4318/v1/traces", "http://c:4318/v1/traces"),
    ],
)
def test_an_endpoint_is_completed(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


def test_spans_go_by_grpc_where_the_endpoint_says_so() -> None:
    with grpc_collector() as collector:
        tracing = Tracing("edge", instance="e1", otlp_endpoint=collector.url)
        trace_id = one_frame(tracing)
        tracing.close()
        traces = collector.traces()
    assert [trace.hex() for trace in traces] == [trace_id]
    assert {(service, span.name) for spans in traces.values() for service, span in spans} == {
        ("edge", "frame"),
        ("edge", "offload"),
    }


@pytest.fixture
def silent() -> Iterator[str]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_collector_that_hangs_costs_spans_that_are_counted(silent: str) -> None:
    export = OtlpExport(silent, service="edge", instance="e1")
    row = SpanRow("ab" * 16, "cd" * 8, None, "frame", "edge", "e1", 1, 2)
    started = time.monotonic()
    export.emit(row for _ in range(3 * QUEUE_SPANS))
    assert time.monotonic() - started < _EXPORT_TIMEOUT_S, "nobody waits for a collector"
    assert QUEUE_SPANS <= export.dropped <= 2 * QUEUE_SPANS
    export.close(0.1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_spans_that_a_collector_refuses_are_counted() -> None:
    export = OtlpExport("http://127.0.0.1:9", service="edge", instance="e1")
    export.emit([SpanRow("ab" * 16, "cd" * 8, None, "frame", "edge", "e1", 1, 2)])
    export.close(10)
    assert export.dropped == 1


def test_a_frame_that_its_caller_keeps_later_is_exported_then_and_once() -> None:
    with grpc_collector() as collector:
        edge = Tracing("edge", instance="e1", sample_ratio=0.0)
        cloud = Tracing("cloud", instance="w1", otlp_endpoint=collector.url, recent_frames=4)
        for number in range(6):
            frame = edge.start_frame(f"e1.r.{number}", 0)
            work = cloud.continue_trace(frame.traceparent(), 1, frame_id=frame.frame_id)
            work.span("tail", 2, 3)
            work.finish(4)
        assert cloud.keep("e1.r.4") and not cloud.keep("e1.r.4"), "once"
        assert not cloud.keep("e1.r.0"), "forgotten by now"
        assert not cloud.keep("e1.r.5", owner="another tenant")
        cloud.close()
        edge.close()
        names = sorted(
            (span.name, span.attributes[0].value.string_value if span.attributes else "")
            for spans in collector.traces().values()
            for _, span in spans
        )
    assert names == [("tail", ""), ("worker", "e1.r.4")]
