"""Owns the border from the mesh's errors to gRPC: one table of status codes, and the details that go along.

Details are a google.rpc.Status in the trailing metadata (https://google.aip.dev/193): an ErrorInfo of domain
"splitmesh" whose reason is the error's name, a BadRequest where a field is at fault, a RetryInfo where trying again
makes sense.
"""

from __future__ import annotations

import re
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from splitmesh.errors import (
    AccessDenied,
    BusError,
    DecodeError,
    FrameShapeError,
    InferenceError,
    MeshError,
    ModelError,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    SettingsError,
    UnknownName,
    WireError,
)

DOMAIN = "splitmesh"
DETAILS_KEY = "grpc-status-details-bin"
_RETRY_S = 1
_SHOWN_CHARS = 500

_TABLE: tuple[tuple[type[MeshError], Any], ...] = (
    (AccessDenied, grpc.StatusCode.UNAUTHENTICATED),
    (UnknownName, grpc.StatusCode.NOT_FOUND),
    (ModelError, grpc.StatusCode.NOT_FOUND),
    (PayloadTooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (RequestTimeout, grpc.StatusCode.DEADLINE_EXCEEDED),
    (BusError, grpc.StatusCode.UNAVAILABLE),
    (WireError, grpc.StatusCode.INVALID_ARGUMENT),
    (FrameShapeError, grpc.StatusCode.INVALID_ARGUMENT),
    (DecodeError, grpc.StatusCode.INVALID_ARGUMENT),
    (SettingsError, grpc.StatusCode.INVALID_ARGUMENT),
    (InferenceError, grpc.StatusCode.INTERNAL),
)


def code_for(error: MeshError) -> Any:
    """The grpc.StatusCode that says what `error` means to a caller; INTERNAL for one that is not in the table."""
    return next((code for kind, code in _TABLE if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def reason_for(error: MeshError) -> str:
    """Its class's name in upper case: UNKNOWN_NAME."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).upper()


def status_for(error: MeshError) -> tuple[Any, str, tuple[tuple[str, bytes], ...]]:
    """(code, text for people, trailing metadata)."""
    code, text = code_for(error), str(error)[:_SHOWN_CHARS]
    field = getattr(error, "field", "") or getattr(error, "key", "")
    metadata = {"field": str(field)} if field else {}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason_for(error), domain=DOMAIN, metadata=metadata)]
    if field and code is grpc.StatusCode.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=error.message[:_SHOWN_CHARS])
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retryable:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(_RETRY_S)
        details.append(retry)
    status = status_pb2.Status(code=code.value[0], message=text, details=[_packed(detail) for detail in details])
    return code, text, ((DETAILS_KEY, status.SerializeToString()),)


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
