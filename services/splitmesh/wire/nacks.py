"""Owns the table from errors to refusals. Refuses to look at message text."""

from __future__ import annotations

from splitmesh.errors import (
    FrameShapeError,
    InferenceError,
    MeshError,
    ModelError,
    NeedKeyframe,
    NeedTable,
    Overloaded,
    WireError,
)
from splitmesh.wire.messages import MAX_DETAIL_CHARS, Nack, NackCode

_TABLE: tuple[tuple[type[Exception], NackCode], ...] = (
    (NeedKeyframe, NackCode.NEED_KEYFRAME),
    (NeedTable, NackCode.NEED_TABLE),
    (WireError, NackCode.BAD_REQUEST),
    (FrameShapeError, NackCode.BAD_REQUEST),
    (ModelError, NackCode.UNKNOWN_MODEL),
    (InferenceError, NackCode.INFERENCE_FAILED),
    (Overloaded, NackCode.OVERLOADED),
)


def nack_code_for(error: Exception) -> NackCode:
    """The code that says what `error` means to the edge; anything unforeseen is INFERENCE_FAILED."""
    return next((code for kind, code in _TABLE if isinstance(error, kind)), NackCode.INFERENCE_FAILED)


def nack_for(error: Exception) -> Nack:
    """The refusal that `error` becomes. Only the mesh's own errors show their text: others could leak."""
    detail = str(error) if isinstance(error, MeshError) else f"unforeseen {type(error).__name__}"
    printable = detail[:MAX_DETAIL_CHARS].encode("utf-8", "replace").decode()
    return Nack(nack_code_for(error), printable)
