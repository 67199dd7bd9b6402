"""Owns the errors of the client: a call that failed as a whole, and a frame that has no answer."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from splitmesh.errors import MeshError

_DETAILS_KEY = "grpc-status-details-bin"
_RETRYABLE = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})


class CallFailed(MeshError):
    """A call ended with an error. code: name of the gRPC status ("NOT_FOUND"); reason: of the error in the mesh
    ("UNKNOWN_NAME"), "" where the gateway was not reached; field: at fault, or ""."""

    def __init__(self, message: str, *, code: str, reason: str = "", field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.field = field
        self.retryable = code in _RETRYABLE


class FrameFailed(MeshError):
    """A frame has no answer. code: "overloaded", "expired", "bad_frame", …"""

    def __init__(self, message: str, *, code: str, frame_id: str) -> None:
        super().__init__(message)
        self.code = code
        self.frame_id = frame_id
        self.retryable = code in ("overloaded", "unavailable")


def call_failed(exc: Any) -> CallFailed:
    """Of a grpc.RpcError, sync or async."""
    info = error_details_pb2.ErrorInfo()
    for key, value in exc.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
    code = exc.code() or grpc.StatusCode.UNKNOWN
    return CallFailed(exc.details() or code.name, code=code.name, reason=info.reason, field=info.metadata["field"])
