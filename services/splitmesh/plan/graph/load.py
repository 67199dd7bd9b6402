"""Owns reading an ONNX file with its weights, and its sha256. Refuses over 2 GB, and weights outside its folder.

The checker of ONNX has no say here: it also refuses models that every runtime runs. What the graph's own names say
must hold, whatever else is wrong the runtime reports when it loads the model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path, PurePosixPath

from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph.names import reads, subgraphs, weights
from splitmesh.plan.graph.widen import widen

MAX_MODEL_BYTES = 2_000_000_000
"""Of the file and its external data together: what protobuf can hold."""

_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Element types of less than a byte; several share one."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where the bytes of a tensor lie."""

    tensor: TensorProto
    location: str
    file: Path
    offset: int
    length: int


def load_model(path: Path) -> ModelProto:
    """The model with external data loaded in, its nodes in topological order, and in floats that run (`widen`).

    Raises ModelError naming the file: missing, no ONNX model, over MAX_MODEL_BYTES (seen before the weights are
    read), a graph that reads what nothing makes, external data that is missing, too short or outside the folder.
    """
    model = read_skeleton(path)
    stored = list(_external(path, model))
    _check_size(path, stored)
    with ExitStack() as files:
        opened = {file: files.enter_context(file.open("rb")) for file in {each.file for each in stored}}
        for each in stored:
            opened[each.file].seek(each.offset)
            each.tensor.raw_data = opened[each.file].read(each.length)
            each.tensor.ClearField("data_location")
            del each.tensor.external_data[:]
    _put_in_order(model.graph, path)
    widen(model)
    return model


def read_skeleton(path: Path) -> ModelProto:
    """The file alone: what lies in other files stays a reference. Raises ModelError like `load_model`."""
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise _too_large(path, size)
        payload = path.read_bytes()
    except OSError as exc:
        raise ModelError(f"model {path} can't be read: {exc.strerror or exc}", advice="check the path") from exc
    try:
        model = ModelProto.FromString(payload)
    except DecodeError as exc:
        raise _no_model(path) from exc
    if not model.graph.output or not (model.graph.node or model.graph.initializer):
        raise _no_model(path)
    return model


def external_files(path: Path, model: ModelProto) -> tuple[Path, ...]:
    """The files beside `path` that hold weights of `model`, its skeleton; by name, each once, all there."""
    stored = list(_external(path, model))
    _check_size(path, stored)
    return tuple(dict(sorted((each.location, each.file) for each in stored)).values())


def model_files(path: Path) -> tuple[Path, ...]:
    """The model's file, then those of its external data by name. Raises ModelError like `load_model`."""
    return (path, *external_files(path, read_skeleton(path)))


def model_sha256(path: Path) -> str:
    """Lower-case hex; see `files_sha256`. Raises ModelError like `load_model`."""
    return files_sha256(model_files(path))


def files_sha256(files: Sequence[Path]) -> str:
    """One file's own sha256; of several (in the order of `model_files`) that of their sha256 in hex, one after the
    other. Whatever the files are called and wherever they lie, the same contents give the same."""
    digests = []
    for file in files:
        try:
            with file.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
        except OSError as exc:
            raise ModelError(f"model {file} can't be read: {exc.strerror or exc}") from exc
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _no_model(path: Path) -> ModelError:
    return ModelError(f"{path} is not an ONNX model", advice="export or download it again")


def _too_large(path: Path, size: int) -> ModelError:
    return ModelError(
        f"model {path} has {size / 1e9:.2f} GB with its weights, more than the {MAX_MODEL_BYTES / 1e9:.0f} GB that "
        "splitmesh can take apart",
        advice="export a smaller model, or one with float16 weights",
    )


def _check_size(path: Path, stored: Sequence[_Stored]) -> None:
    in_files = sum(file.stat().st_size for file in {each.file for each in stored})
    loaded = sum(each.length for each in stored)
    size = path.stat().st_size + max(in_files, loaded)
    if size > MAX_MODEL_BYTES:
        raise _too_large(path, size)


def _external(path: Path, model: ModelProto) -> Iterator[_Stored]:
    """Every tensor whose bytes lie in another file, at whatever depth of the graph."""
    nodes = [node for function in model.functions for node in function.node]
    for tensor in (*_tensors(model.graph), *_tensors_of_nodes(nodes)):
        if tensor.data_location == TensorProto.EXTERNAL:
            yield _stored(path, tensor)


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    yield from _dense(graph.sparse_initializer)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Sequence[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            yield from _dense([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])
            yield from _dense(attribute.sparse_tensors)
        for body in subgraphs(node):
            yield from _tensors(body)


def _dense(sparse: Sequence[SparseTensorProto]) -> Iterator[TensorProto]:
    for each in sparse:
        yield from (each.values, each.indices)


def _stored(path: Path, tensor: TensorProto) -> _Stored:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    location = facts.get("location", "")
    says = f"model {path} keeps weight {tensor.name!r} in {location!r}"
    pure = PurePosixPath(location)
    file = path.parent / location
    # Also beside the file that a link leads to: caches of downloaded models keep their files so.
    homes = (path.parent.resolve(), path.resolve().parent)
    outside = pure.is_absolute() or ".." in pure.parts or not any(file.resolve().is_relative_to(h) for h in homes)
    if not location or outside:
        raise ModelError(f"{says}, outside the model's own folder", advice="put the weights beside the model")
    if not file.is_file():
        raise ModelError(f"{says}, which is not there", advice=f"put {location} beside the model")
    needed = math.ceil(math.prod(tensor.dims) * _bits(tensor) / 8)
    try:
        offset, length = int(facts.get("offset", "0")), int(facts.get("length", str(needed)))
    except ValueError as exc:
        raise ModelError(f"{says} at offset {facts.get('offset')!r}, length {facts.get('length')!r}") from exc
    if length != needed or offset < 0 or offset + length > file.stat().st_size:
        raise ModelError(
            f"{says}: {needed} bytes are needed there at {offset}, it says {length} of {file.stat().st_size}",
            advice="export or download the model again, with all its files",
        )
    return _Stored(tensor, location, file, offset, length)


def _bits(tensor: TensorProto) -> int:
    try:
        name = TensorProto.DataType.Name(TensorProto.DataType.ValueType(tensor.data_type))
        return _BITS.get(name) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError) as exc:
        raise ModelError(f"weight {tensor.name!r} has the unknown element type {tensor.data_type}") from exc


def _put_in_order(graph: GraphProto, path: Path) -> None:
    """Topological order, as ONNX asks for and some writers do not keep; in place, stable.

    Raises ModelError for a name that nothing makes or two things make, and for a cycle.
    """
    known = {v.name for v in graph.input} | set(weights(graph))
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in makers or name in known:
                raise ModelError(f"model {path} makes tensor {name!r} twice", advice="export it again")
            makers[name] = index
    needed = [reads(node) for node in graph.node]
    wanted = [name for names in needed for name in names] + [o.name for o in graph.output]
    lost = next((name for name in wanted if name not in makers and name not in known), "")
    if lost:
        raise ModelError(f"model {path} reads tensor {lost!r}, which nothing makes", advice="export it again")
    waits = [{makers[name] for name in names if name in makers} for names in needed]
    if all(max(before, default=-1) < index for index, before in enumerate(waits)):
        return
    order = _order(waits)
    if len(order) != len(waits):
        raise ModelError(f"the graph of model {path} has a cycle", advice="export it again")
    nodes = [graph.node[index] for index in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _order(waits: Sequence[set[int]]) -> list[int]:
    """Kahn's algorithm, lowest index first; what a cycle holds up is left out."""
    followers: dict[int, list[int]] = {}
    for index, before in enumerate(waits):
        for each in before:
            followers.setdefault(each, []).append(index)
    missing = [len(before) for before in waits]
    ready = [index for index, count in enumerate(missing) if not count]
    order: list[int] = []
    while ready:
        index = heappop(ready)
        order.append(index)
        for follower in followers.get(index, ()):
            missing[follower] -= 1
            if not missing[follower]:
                heappush(ready, follower)
    return order
