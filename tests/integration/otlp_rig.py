"""An OpenTelemetry collector for tests, by gRPC on the official protocol, and what it was sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class GrpcCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes everything; `url` is what `--otlp-endpoint` wants."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[ExportTraceServiceRequest] = []

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        self.received.append(request)
        return ExportTraceServiceResponse()

    def traces(self) -> dict[bytes, list[tuple[str, Span]]]:
        """Trace id to (service, span)."""
        found: dict[bytes, list[tuple[str, Span]]] = defaultdict(list)
        for request in list(self.received):
            for resource in request.resource_spans:
                names = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        found[span.trace_id].append((names["service.name"], span))
        return found


@contextmanager
def grpc_collector() -> Iterator[GrpcCollector]:
    collector = GrpcCollector()
    server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    collector.url = f"grpc://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        server.stop(None).wait()
