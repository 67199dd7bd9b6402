"""Owns the weights of all models of a plan: one append-only file, each content once. Knows nothing of the graphs.

Initializers of at least 1024 bytes become ONNX external data in it; what is smaller stays inline, where shape
inference and the runtime's constant folding look for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from splitmesh.errors import ModelError, OutputError

WEIGHTS_FILE = "weights.bin"
INLINE_BYTES = 1024
"""Smaller initializers stay in the graph."""
_ALIGN = 64
_PAGE = 4096
_PAGE_FROM_BYTES = 1 << 20
"""Weights of this size start on a page of their own, so that a mapping shares no page with a neighbour."""


class WeightStore:
    """A new weights file at `path`; the models that use it lie in the same folder. A context manager.

    The same models in the same order give the same bytes. Raises OutputError if the file can't be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[bytes, tuple[int, int]] = {}
        self._end = 0
        try:
            self._file = path.open("xb")
        except OSError as exc:
            raise OutputError(f"{path} can't be made: {exc.strerror or exc}", path=str(path)) from exc

    def __enter__(self) -> WeightStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def size_bytes(self) -> int:
        return self._end

    def externalise(self, model: ModelProto) -> ModelProto:
        """Move the large initializers of `model` (of bodies inside it too) here; returns `model` itself.

        References into this very file are kept, so a model that was split from one that is here already costs
        nothing. Raises ModelError for a reference into another file or past the end, OutputError if the disk is full.
        """
        for tensor in initializers(model.graph):
            if tensor.data_location == TensorProto.EXTERNAL:
                self._check(tensor)
            elif (data := _raw_bytes(tensor)) is not None:
                _refer(tensor, self.path.name, *self._stored(data))
        try:
            self._file.flush()
        except OSError as exc:
            raise self._failed(exc) from exc
        return model

    def _stored(self, data: bytes) -> tuple[int, int]:
        """Offset and length of `data`, written unless it is there."""
        digest = hashlib.sha256(data).digest()
        if digest not in self._known:
            align = _PAGE if len(data) >= _PAGE_FROM_BYTES else _ALIGN
            offset = -(-self._end // align) * align
            try:
                self._file.write(bytes(offset - self._end))
                self._file.write(data)
            except OSError as exc:
                raise self._failed(exc) from exc
            self._known[digest] = (offset, len(data))
            self._end = offset + len(data)
        return self._known[digest]

    def _check(self, tensor: TensorProto) -> None:
        facts = {entry.key: entry.value for entry in tensor.external_data}
        if facts.get("location") != self.path.name:
            raise ModelError(
                f"weight {tensor.name} lies in {facts.get('location')!r}, not in the plan's {self.path.name}",
                advice="load the model's external data before it is planned",
            )
        if int(facts.get("offset", "0")) + int(facts.get("length", "0")) > self._end:
            raise ModelError(f"weight {tensor.name} lies behind the end of {self.path}")

    def _failed(self, exc: OSError) -> OutputError:
        return OutputError(f"{self.path} can't be written: {exc.strerror or exc}", path=str(self.path))


def initializers(graph: GraphProto) -> Iterator[TensorProto]:
    """Every dense initializer of `graph` and of the bodies inside it, outer ones first, in file order."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from initializers(attribute.g)
            for body in attribute.graphs:
                yield from initializers(body)


def _raw_bytes(tensor: TensorProto) -> bytes | None:
    """The little-endian bytes of a large tensor; None for a small one or one of strings."""
    if tensor.data_type == TensorProto.STRING:
        return None
    if tensor.HasField("raw_data"):
        return tensor.raw_data if len(tensor.raw_data) >= INLINE_BYTES else None
    if tensor.ByteSize() < INLINE_BYTES // 8:  # packed variable-length integers: at least a byte for eight
        return None
    data = numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    return data if len(data) >= INLINE_BYTES else None


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    name, kind, dims = tensor.name, tensor.data_type, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type, tensor.data_location = name, kind, TensorProto.EXTERNAL
    tensor.dims.extend(dims)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
