"""Traces of real processes at a real collector: one connected tree per frame, times that fit, no frame lost."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh_run import OFFLOADED, Scene, node, until
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_rig import grpc_collector

from splitmesh.bus.server import EmbeddedServer

pytestmark = pytest.mark.slow

SLACK_NS = 5_000_000
"""Each process measures its offset to the wall clock once."""


def attribute(span: Span, name: str) -> str:
    return next((a.value.string_value for a in span.attributes if a.key == name), "")


BEFORE_THE_END = {"decode", "preprocess", "decide", "head", "encode", "postprocess"}
"""Of a frame's spans those that its result needs; a loser's run and a worker's accounts may outlast it."""


def check_tree(spans: list[tuple[str, Span]]) -> None:
    """One root, every other below a span that is there and begun within it."""
    by_id = {span.span_id: span for _, span in spans}
    roots = [span for _, span in spans if not span.parent_span_id]
    assert [root.name for root in roots] == ["frame"], [span.name for _, span in spans]
    for service, span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id:
            parent = by_id[span.parent_span_id]
            assert span.start_time_unix_nano >= parent.start_time_unix_nano - SLACK_NS, (service, span.name)
            if service == "edge" and span.name in BEFORE_THE_END:
                assert span.end_time_unix_nano <= parent.end_time_unix_nano + SLACK_NS, (service, span.name)


async def test_each_frame_is_one_connected_trace(scene: Scene, broker: EmbeddedServer, tmp_path: Path) -> None:
    with grpc_collector() as collector:
        theirs = {"nats_url": broker.url, "otlp_endpoint": collector.url}
        async with (
            node("cloud", tmp_path / "cloud", ready=False, **scene.worker(**theirs)) as worker,
            node("edge", tmp_path / "edge", **scene.edge(policy=scene.split, **theirs)) as edge,
        ):
            await edge.offloads(15, seconds=60)
            assert await edge.stop() == 0, edge.log
            assert await worker.stop() == 0, worker.log
        records = edge.frame_records()
        traces = collector.traces()
    ids = {record.trace_id: record for record in records if record.trace_id}
    assert {trace.hex() for trace in traces} == set(ids), "each frame that was decided on, once"
    for trace, spans in traces.items():
        check_tree(spans)
        record = ids[trace.hex()]
        root = next(span for _, span in spans if span.name == "frame")
        assert attribute(root, "splitmesh.frame_id") == record.frame_id
        if record.outcome in OFFLOADED:
            by_id = {span.span_id: span for _, span in spans}
            worker_spans = [span for service, span in spans if service == "cloud" and span.name == "worker"]
            assert len(worker_spans) == 1
            assert by_id[worker_spans[0].parent_span_id].name == "offload"


async def test_what_is_kept_for_being_late_is_kept_by_the_worker_too(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path
) -> None:
    """Nothing is sampled, every frame misses: the edge keeps all of them, and tells the worker which."""
    with grpc_collector() as collector:
        theirs = {"nats_url": broker.url, "otlp_endpoint": collector.url}
        late = {"policy": scene.split, "deadline_ms": 60, "trace_ratio": 0.0}
        async with (
            node("cloud", tmp_path / "cloud", ready=False, **scene.worker(**theirs, trace_ratio=0.0)) as worker,
            node("edge", tmp_path / "edge", **scene.edge(**late, **theirs)) as edge,
        ):
            await until(lambda: len(of_both(collector.traces())) >= 3, 60)  # a worker may see a cancellation first
            assert await edge.stop() == 0, edge.log
            assert await worker.stop() == 0, worker.log
        traces = collector.traces()
    kept = {record.trace_id for record in edge.frame_records() if record.exceptional and record.uplink_bytes}
    assert kept <= {trace.hex() for trace in traces}, "the edge keeps all of them"
    for trace, spans in of_both(traces).items():
        assert trace.hex() in kept
        check_tree(spans)


Traces = dict[bytes, list[tuple[str, Span]]]


def of_both(traces: Traces) -> Traces:
    """The traces with spans of the edge and of a worker."""
    return {trace: spans for trace, spans in traces.items() if {service for service, _ in spans} == {"edge", "cloud"}}


@pytest.fixture
def hanging() -> Iterator[str]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_a_collector_that_hangs_costs_no_frame(
    scene: Scene, broker: EmbeddedServer, tmp_path: Path, hanging: str
) -> None:
    theirs = {"nats_url": broker.url, "otlp_endpoint": hanging}
    async with (
        node("cloud", tmp_path / "cloud", ready=False, **scene.worker(**theirs)) as worker,
        node("edge", tmp_path / "edge", **scene.edge(policy=scene.split, **theirs)) as edge,
    ):
        await edge.offloads(15, seconds=60)
        assert await edge.stop() == 0, edge.log
        assert await worker.stop() == 0, worker.log
    records = edge.frame_records()
    answered = [record for record in records if record.outcome in OFFLOADED]
    assert sum(record.deadline_hit for record in answered) > 0.8 * len(answered)
