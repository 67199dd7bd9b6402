"""Owns tensors of the Open Inference protocol: what a model's metadata asks for, and requests that hold it. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

_DTYPES: Final[dict[str, str]] = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    "BF16": "<u2",
    "BYTES": "",
}
_BINARY_ONLY: Final = ("FP16", "BF16")
"""JSON has no place for them: Triton's extension_binary_data.md."""
_MOST_ELEMENTS: Final = 1 << 26
_SHAPE: Final = re.compile(r"([^:]+):([0-9]+(?:x[0-9]+)*)")
_SEED: Final = 7


class UnfitError(ValueError):
    """A request can't be made for this model; the text says why."""


class Input(NamedTuple):
    """What the model takes under `name`. shape: no dimension is open."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


class Tensor(NamedTuple):
    """`data`: little endian, C order; of BYTES each element behind its length in four bytes."""

    input: Input
    data: bytes


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """{input: shape} of "INPUT:1x3x224x224". Raises UnfitError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise UnfitError(f"{text!r} is no shape")
        shapes[match[1]] = tuple(map(int, match[2].split("x")))
    return shapes


def read_inputs(metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Input, ...]:
    """The inputs of a model's metadata, open dimensions as in `shapes`, else 1. Raises UnfitError."""
    rows = metadata.get("inputs")
    if not isinstance(rows, list) or not rows:
        raise UnfitError("its metadata names no inputs")
    inputs: list[Input] = []
    for row in rows:
        try:
            name, datatype, dimensions = str(row["name"]), str(row["datatype"]), [int(d) for d in row["shape"]]
        except (KeyError, TypeError, ValueError) as exc:
            raise UnfitError(f"its metadata has an input without name, datatype or shape: {row}") from exc
        if datatype not in _DTYPES:
            raise UnfitError(f"input {name} is {datatype}, which is not known here")
        shape = shapes.get(name, tuple(1 if d < 0 else d for d in dimensions))
        if len(shape) != len(dimensions) or any(d not in (-1, s) for d, s in zip(dimensions, shape, strict=True)):
            raise UnfitError(f"input {name} has shape {dimensions}, which {list(shape)} does not fit")
        if not 0 <= math.prod(shape) <= _MOST_ELEMENTS:
            raise UnfitError(f"input {name} of {list(shape)} is too large")
        inputs.append(Input(name, datatype, shape))
    if unknown := shapes.keys() - {each.name for each in inputs}:
        raise UnfitError(f"it has no input {', '.join(sorted(unknown))}, only {', '.join(i.name for i in inputs)}")
    return tuple(inputs)


def made_up(wanted: Input) -> Tensor:
    """Numbers in [0, 1), whole ones up to 255, the same every time; BYTES as the word "meshload"."""
    random = np.random.default_rng(_SEED)
    if wanted.datatype == "BYTES":
        return Tensor(wanted, _element(b"meshload") * wanted.elements)
    if wanted.datatype == "BF16":
        upper = random.random(wanted.elements, np.float32).view(np.uint32) >> np.uint32(16)
        return Tensor(wanted, upper.astype("<u2").tobytes())
    dtype = np.dtype(_DTYPES[wanted.datatype])
    values: npt.NDArray[Any]
    if dtype.kind == "f":
        values = random.random(wanted.elements).astype(dtype)
    else:
        most = {"?": 1, "<i1": 127}.get(_DTYPES[wanted.datatype], 255)
        values = random.integers(0, most + 1, wanted.elements).astype(dtype)
    return Tensor(wanted, values.tobytes())


def from_bytes(inputs: Sequence[Input], data: bytes) -> Tensor:
    """`data` as the one input: its elements as they are, or of BYTES its one element. Raises UnfitError."""
    if len(inputs) != 1:
        raise UnfitError(f"the model has {len(inputs)} inputs, a payload is one")
    (wanted,) = inputs
    if wanted.datatype == "BYTES":
        if wanted.elements != 1:
            raise UnfitError(f"input {wanted.name} takes {wanted.elements} elements, a payload is one")
        return Tensor(wanted, _element(data))
    size = np.dtype(_DTYPES[wanted.datatype]).itemsize * wanted.elements
    if len(data) != size:
        raise UnfitError(f"input {wanted.name} takes {size} bytes, the payload has {len(data)}")
    return Tensor(wanted, data)


def infer_body(tensors: Sequence[Tensor], *, binary: bool) -> tuple[int, bytes]:
    """(bytes of its JSON, the whole body). binary: tensors behind the JSON, and outputs asked for in the same way.

    Raises UnfitError for what JSON can't hold.
    """
    rows: list[dict[str, Any]] = []
    for tensor in tensors:
        name, datatype, shape = tensor.input
        row: dict[str, Any] = {"name": name, "shape": list(shape), "datatype": datatype}
        if binary:
            row["parameters"] = {"binary_data_size": len(tensor.data)}
        else:
            row["data"] = _listed(tensor)
        rows.append(row)
    request: dict[str, Any] = {"inputs": rows}
    if binary:
        request["parameters"] = {"binary_data_output": True}
    head = json.dumps(request, separators=(",", ":")).encode()
    return len(head), b"".join((head, *(tensor.data for tensor in tensors))) if binary else head


def _listed(tensor: Tensor) -> list[Any]:
    """The elements, flat, in C order."""
    name, datatype, _ = tensor.input
    if datatype in _BINARY_ONLY:
        raise UnfitError(f"input {name} is {datatype}, which JSON can't hold, and the server takes no binary tensors")
    if datatype != "BYTES":
        listed: list[Any] = np.frombuffer(tensor.data, _DTYPES[datatype]).tolist()
        return listed
    texts: list[str] = []
    at = 0
    while at < len(tensor.data):
        end = at + 4 + int.from_bytes(tensor.data[at : at + 4], "little")
        try:
            texts.append(tensor.data[at + 4 : end].decode())
        except UnicodeDecodeError as exc:
            raise UnfitError(f"input {name}: JSON can't hold bytes that are no text") from exc
        at = end
    return texts


def _element(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data
