"""Owns the tables from refusals and errors to what a Result says of a frame that failed."""

from __future__ import annotations

from collections.abc import Mapping

from splitmesh.errors import (
    BusError,
    DecodeError,
    FrameShapeError,
    InferenceError,
    MeshError,
    ModelError,
    Overloaded,
    RequestTimeout,
    UnknownName,
)
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire.messages import Nack, NackCode

_MAX_DETAIL_CHARS = 500

_OF_NACK: Mapping[NackCode, pb.FrameErrorCode.ValueType] = {
    NackCode.OVERLOADED: pb.FRAME_ERROR_CODE_OVERLOADED,
    NackCode.EXPIRED: pb.FRAME_ERROR_CODE_EXPIRED,
    NackCode.UNKNOWN_MODEL: pb.FRAME_ERROR_CODE_UNKNOWN_MODEL,
    NackCode.BAD_REQUEST: pb.FRAME_ERROR_CODE_BAD_FRAME,
    NackCode.INFERENCE_FAILED: pb.FRAME_ERROR_CODE_INFERENCE_FAILED,
    NackCode.DRAINING: pb.FRAME_ERROR_CODE_UNAVAILABLE,
    NackCode.CANCELLED: pb.FRAME_ERROR_CODE_CANCELLED,
    NackCode.QUOTA: pb.FRAME_ERROR_CODE_QUOTA,
}
_OF_ERROR: tuple[tuple[type[MeshError], pb.FrameErrorCode.ValueType], ...] = (
    (UnknownName, pb.FRAME_ERROR_CODE_UNKNOWN_MODEL),
    (ModelError, pb.FRAME_ERROR_CODE_UNKNOWN_MODEL),
    (Overloaded, pb.FRAME_ERROR_CODE_OVERLOADED),
    (RequestTimeout, pb.FRAME_ERROR_CODE_EXPIRED),
    (BusError, pb.FRAME_ERROR_CODE_UNAVAILABLE),
    (DecodeError, pb.FRAME_ERROR_CODE_BAD_FRAME),
    (FrameShapeError, pb.FRAME_ERROR_CODE_BAD_FRAME),
    (InferenceError, pb.FRAME_ERROR_CODE_INFERENCE_FAILED),
)
"""Others are the gateway's own: INTERNAL."""


def fault_of_nack(nack: Nack) -> pb.FrameError:
    code = _OF_NACK.get(nack.code, pb.FRAME_ERROR_CODE_INTERNAL)
    return pb.FrameError(code=code, detail=nack.detail, retry_after_ms=nack.retry_after_us / 1e3)


def fault_of_error(exc: MeshError) -> pb.FrameError:
    code = next((code for kind, code in _OF_ERROR if isinstance(exc, kind)), pb.FRAME_ERROR_CODE_INTERNAL)
    return pb.FrameError(code=code, detail=str(exc)[:_MAX_DETAIL_CHARS])


def fault_name(fault: pb.FrameError) -> str:
    """Of its code: "overloaded"."""
    return pb.FrameErrorCode.Name(fault.code).removeprefix("FRAME_ERROR_CODE_").lower()
