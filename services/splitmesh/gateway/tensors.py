"""Owns the Open Inference Protocol's tensors: a request's picture in, an answer's arrays out. Asks nobody."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import Answer
from splitmesh.frames.tensors import Array
from splitmesh.gateway.pictures import InputPicture
from splitmesh.v1 import open_inference_pb2 as pb

PICTURE = "image"
_DATATYPES = {"float32": "FP32", "uint8": "UINT8", "uint16": "UINT16", "int32": "INT32", "int64": "INT64"}


def picture_bytes(request: pb.ModelInferRequest, wanted: InputPicture) -> bytes:
    """The pixels of the one input: rows, pixels, red green blue. Raises FrameShapeError naming what is wrong."""
    if len(request.inputs) != 1 or request.inputs[0].name != PICTURE:
        given = ", ".join(each.name for each in request.inputs) or "none"
        raise FrameShapeError(f"the model takes one input {PICTURE!r}, given: {given[:200]}")
    tensor, shape = request.inputs[0], (wanted.height, wanted.width, 3)
    if tensor.datatype != "UINT8" or tuple(tensor.shape) not in (shape, (1, *shape)):
        raise FrameShapeError(
            f"input {PICTURE!r} is {tensor.datatype[:20]} {list(tensor.shape)[:8]}, "
            f"the model takes UINT8 {[1, *shape]}"
        )
    if request.raw_input_contents:
        if len(request.raw_input_contents) != 1:
            raise FrameShapeError(f"{len(request.raw_input_contents)} raw contents are given for one input")
        raw = request.raw_input_contents[0]
    else:
        _check_length(len(tensor.contents.uint_contents), shape)
        values = np.asarray(tensor.contents.uint_contents, np.uint32)
        if values.max() > 255:
            raise FrameShapeError(f"input {PICTURE!r} holds {values.max()}, beyond UINT8")
        raw = values.astype(np.uint8).tobytes()
    _check_length(len(raw), shape)
    return raw


def _check_length(length: int, shape: tuple[int, ...]) -> None:
    if length != math.prod(shape):
        raise FrameShapeError(f"input {PICTURE!r} has {length} bytes, its shape says {math.prod(shape)}")


def outputs_of(answer: Answer) -> dict[str, Array]:
    """By name, in order."""
    arrays: dict[str, Array] = {"boxes": answer.boxes, "scores": answer.scores, "classes": answer.classes}
    if answer.points.shape[1]:
        arrays["points"] = answer.points
    for name, tensor in answer.tensors.items():
        arrays[name if name not in arrays else f"model.{name}"] = tensor
    return arrays


def fill_outputs(
    response: pb.ModelInferResponse, answer: Answer, asked: Iterable[pb.ModelInferRequest.InferRequestedOutputTensor]
) -> None:
    """Those that are asked for, each once, or all. Raises FrameShapeError for one that there is not."""
    arrays = outputs_of(answer)
    names = list(dict.fromkeys(each.name for each in asked)) or list(arrays)
    for name in names:
        array = arrays.get(name)
        if array is None:
            raise FrameShapeError(f"there is no output {name[:80]!r}, only {', '.join(arrays)}")
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        response.outputs.add(name=name, datatype=_DATATYPES[array.dtype.name], shape=array.shape)
        response.raw_output_contents.append(little.tobytes())
