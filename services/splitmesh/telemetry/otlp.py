"""Owns the way of finished spans to an OpenTelemetry collector, by OTLP over HTTP or gRPC. Samples nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from splitmesh.errors import SettingsError
from splitmesh.telemetry.spanrow import SpanRow

_SCOPE = InstrumentationScope("splitmesh")
_STANDARD_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORT_TIMEOUT_S = 5.0
_BETWEEN_EXPORTS_MS = 1000
QUEUE_SPANS = 8192
"""That may wait for the collector; later ones are dropped and counted."""
_CLIENT_SPANS = frozenset({"offload"})
_SERVER_SPANS = frozenset({"worker"})


class OtlpExport:
    """Hands spans to a batch processor with a thread of its own; a full queue or a dead collector costs spans."""

    def __init__(self, endpoint: str | None, *, service: str, instance: str) -> None:
        """`endpoint`: base URL or full traces URL; None: what the standard OTEL_EXPORTER_OTLP_* variables say.

        grpc://host:port and grpcs://host:port (TLS): over gRPC. Raises SettingsError where a package is missing.
        """
        self._exporter = _Counted(_exporter(endpoint))
        self._emitted = 0
        self._refused = 0
        self._resource = Resource.create({"service.name": service, "service.instance.id": instance})
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=QUEUE_SPANS, schedule_delay_millis=_BETWEEN_EXPORTS_MS
        )

    @property
    def dropped(self) -> int:
        """Spans that found the queue full, and those that the collector did not take."""
        return self._refused + self._exporter.failed

    def emit(self, rows: Iterable[SpanRow]) -> None:
        """From one thread. Never waits for the collector."""
        for row in rows:
            if self._emitted - self._exporter.begun >= QUEUE_SPANS:
                self._refused += 1
                continue
            self._emitted += 1
            self._processor.on_end(readable_span(row, self._resource))

    def close(self, timeout_s: float = 3.0) -> None:
        """Flush for at most `timeout_s`; a collector that does not answer by then loses the rest."""
        closing = threading.Thread(target=self._processor.shutdown, name="otlp-shutdown", daemon=True)
        closing.start()
        closing.join(timeout_s)


class _Counted(SpanExporter):
    """Passes spans on and counts them; only the processor's thread calls `export`."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.begun = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun += len(spans)
        try:
            result = self._inner.export(spans)
        except Exception:
            self.failed += len(spans)
            raise
        if result is not SpanExportResult.SUCCESS:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()


def otlp_wanted(endpoint: str | None) -> bool:
    """True when the setting or a standard OpenTelemetry variable names a collector."""
    return bool(endpoint) or any(os.environ.get(name) for name in _STANDARD_VARIABLES)


def _exporter(endpoint: str | None) -> SpanExporter:
    if endpoint and endpoint.startswith(("grpc://", "grpcs://")):
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
        except ImportError as exc:
            raise SettingsError(
                f"{endpoint} needs OTLP over gRPC, which is not installed",
                key="otlp_endpoint",
                advice="pip install 'splitmesh[otlp-grpc]', or name the collector's HTTP port: http://host:4318",
            ) from exc
        scheme, _, target = endpoint.partition("://")
        return OverGrpc(target.rstrip("/"), insecure=scheme == "grpc", timeout=_EXPORT_TIMEOUT_S)
    return OTLPSpanExporter(endpoint=traces_url(endpoint) if endpoint else None, timeout=_EXPORT_TIMEOUT_S)


def traces_url(endpoint: str) -> str:
    """`http://collector:4318` → `http://collector:4318/v1/traces`; an endpoint that names the signal is kept."""
    parts = urlsplit(endpoint)
    if parts.path.rstrip("/").endswith("/v1/traces"):
        return endpoint
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/v1/traces"))


def readable_span(row: SpanRow, resource: Resource) -> ReadableSpan:
    """The SDK's own span for `row`. Rows that reach the exporter were kept, so the sampled flag is set."""
    trace_id = int(row.trace_id, 16)
    flags = TraceFlags(TraceFlags.SAMPLED)
    parent = None
    if row.parent_id is not None:
        remote = row.name in _SERVER_SPANS
        parent = SpanContext(trace_id, int(row.parent_id, 16), is_remote=remote, trace_flags=flags)
    return ReadableSpan(
        name=row.name,
        context=SpanContext(trace_id, int(row.span_id, 16), is_remote=False, trace_flags=flags),
        parent=parent,
        resource=resource,
        attributes=row.attributes,
        events=[Event(e["name"], e["attributes"], e["unix_ns"]) for e in row.events],
        kind=_kind(row.name),
        status=Status(StatusCode.ERROR, row.error) if row.error else Status(StatusCode.UNSET),
        start_time=row.start_unix_ns,
        end_time=row.end_unix_ns,
        instrumentation_scope=_SCOPE,
    )


def _kind(name: str) -> SpanKind:
    if name in _CLIENT_SPANS:
        return SpanKind.CLIENT
    return SpanKind.SERVER if name in _SERVER_SPANS else SpanKind.INTERNAL
