"""Owns the wire form of an answer: little-endian arrays with counts and shapes that must agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from splitmesh.errors import FrameShapeError, WireError
from splitmesh.frames.answer import F32, Answer
from splitmesh.frames.tensors import MAX_DIMS, MAX_NAME_CHARS, MAX_TENSORS, Array, Packed, Tensors
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire.checks import check_range, check_size

MAX_BOXES = 8192
MAX_POINTS_PER_BOX = 1024
MAX_POINTS = 131_072
"""Over all boxes of an answer: one mebibyte."""

_TYPES: dict[str, pb.TensorType.ValueType] = {
    "float32": pb.TENSOR_TYPE_FLOAT32,
    "uint8": pb.TENSOR_TYPE_UINT8,
    "uint16": pb.TENSOR_TYPE_UINT16,
    "int32": pb.TENSOR_TYPE_INT32,
    "int64": pb.TENSOR_TYPE_INT64,
}
_DTYPES = {number: name for name, number in _TYPES.items()}


def answer_to_pb(answer: Answer) -> pb.Answer:
    """The wire form of `answer`. Raises WireError if it breaks a rule that `answer_from_pb` checks."""
    per_box = answer.points.shape[1]
    _check_shape(len(answer), per_box)
    _check_values(answer)
    return pb.Answer(
        count=len(answer),
        boxes=np.ascontiguousarray(answer.boxes, "<f4").tobytes(),
        scores=np.ascontiguousarray(answer.scores, "<f4").tobytes(),
        classes=np.ascontiguousarray(answer.classes, "<u2").tobytes(),
        points_per_box=per_box,
        points=np.ascontiguousarray(answer.points, "<f4").tobytes(),
        tensors=_tensors_to_pb(answer.tensors) if answer.tensors else (),
    )


def _tensors_to_pb(tensors: Mapping[str, Array]) -> list[pb.AnswerTensor]:
    return [
        pb.AnswerTensor(name=name, type=_TYPES[part.dtype], shape=part.shape, data=part.data)
        for name, part in Tensors.of(tensors).packed().items()
    ]


def answer_from_pb(message: pb.Answer) -> Answer:
    """The answer, in arrays of its own. Raises WireError where counts, lengths or values lie."""
    count, per_box = message.count, message.points_per_box
    _check_shape(count, per_box)
    answer = Answer(
        _floats(message.boxes, count * 4, field="answer.boxes").reshape(count, 4),
        _floats(message.scores, count, field="answer.scores"),
        np.frombuffer(_sized(message.classes, count * 2, field="answer.classes"), "<u2").astype(np.uint16),
        _floats(message.points, count * per_box * 2, field="answer.points").reshape(count, per_box, 2),
        _tensors_from_pb(message),
    )
    _check_values(answer)
    return answer


def _tensors_from_pb(message: pb.Answer) -> dict[str, Array]:
    """Unpacked at once: a lie shall be found where it came in. Sizes are checked, also their sum, before that."""
    check_size(len(message.tensors), field="answer.tensors", limit=MAX_TENSORS)
    parts: dict[str, Packed] = {}
    for place, tensor in enumerate(message.tensors):
        field = f"answer.tensors[{place}]"
        check_size(len(tensor.name), field=f"{field}.name", limit=MAX_NAME_CHARS, least=1)
        check_size(len(tensor.shape), field=f"{field}.shape", limit=MAX_DIMS)
        dtype = _DTYPES.get(tensor.type)
        if dtype is None:
            raise WireError(f"{field}.type {tensor.type} is not known")
        if tensor.name in parts:
            raise WireError(f"{field}.name {tensor.name!r} is there twice")
        try:
            parts[tensor.name] = Packed(dtype, tuple(tensor.shape), tensor.data)
        except FrameShapeError as exc:
            raise WireError(f"{field}: {exc}") from exc
    try:
        return dict(Tensors.from_packed(parts))
    except FrameShapeError as exc:
        raise WireError(f"answer.tensors: {exc}") from exc


def _check_shape(count: int, per_box: int) -> None:
    check_range(count, field="answer.count", high=MAX_BOXES)
    check_range(per_box, field="answer.points_per_box", high=MAX_POINTS_PER_BOX)
    check_range(count * per_box, field="answer.count x answer.points_per_box", high=MAX_POINTS)


def _check_values(answer: Answer) -> None:
    for field, values in (("boxes", answer.boxes), ("scores", answer.scores), ("points", answer.points)):
        if values.size and not np.isfinite(values).all():
            raise WireError(f"answer.{field} holds NaN or infinity")
    for name, tensor in answer.tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise WireError(f"answer.tensors {name!r} holds NaN or infinity")
    if len(answer) and not (answer.scores.min() >= 0 and answer.scores.max() <= 1):
        raise WireError("answer.scores holds a score outside [0, 1]")


def _sized(raw: bytes, expected: int, *, field: str) -> bytes:
    if len(raw) != expected:
        raise WireError(f"{field} has {len(raw)} bytes, its count says {expected}")
    return raw


def _floats(raw: bytes, expected: int, *, field: str) -> F32:
    return np.frombuffer(_sized(raw, expected * 4, field=field), "<f4").astype(np.float32)
