"""Owns turning a TensorFlow.js graph model into ONNX. Runs nothing, guesses nothing: an unknown op is an error.

The graph is walked from the wanted outputs back to the input tensor, so what lies before or after (resizing
loops, in-graph NMS) is dropped. Shapes are static, so shape arithmetic becomes constants; NHWC becomes NCHW;
chains of Mul/Add/BiasAdd/FusedBatchNorm by constants are folded into the convolution before them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from splitmesh.errors import ModelError
from splitmesh.models.convert_graph import Array, float_tensor
from splitmesh.models.convert_tfjs_emit import Emitter, Tensor, Value
from splitmesh.models.convert_tfjs_ops import OPERATORS

_DTYPES = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4"), "bool": np.dtype("?"), "uint8": np.dtype("u1")}


@dataclass(frozen=True, slots=True)
class Node:
    """One TensorFlow node; `inputs` without control edges."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GraphModel:
    """A parsed graph model: its nodes and the values of its Const nodes, both by name."""

    nodes: Mapping[str, Node]
    weights: Mapping[str, Array]


def read_graph_model(model_json: bytes, read_shard: Callable[[str], bytes]) -> GraphModel:
    """Parse `model.json`, asking `read_shard` for each weight file it names, in order.

    Raises ModelError if the JSON is no graph model or the shards don't hold the declared weights.
    """
    try:
        document = json.loads(model_json)
        nodes = {n["name"]: _node(n) for n in document["modelTopology"]["node"]}
        groups = document["weightsManifest"]
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelError(f"model.json is not a TensorFlow.js graph model: {exc!r}") from exc
    weights: dict[str, Array] = {}
    for group in groups:
        payload = b"".join(read_shard(path) for path in group["paths"])
        at = 0
        for spec in group["weights"]:
            at = _read_weight(spec, payload, at, weights)
        if at != len(payload):
            raise ModelError(f"weight files hold {len(payload)} bytes, model.json declares {at}")
    return GraphModel(nodes, weights)


def convert(
    graph: GraphModel,
    *,
    name: str,
    feed: tuple[str, str, tuple[int, int, int, int]],
    outputs: Mapping[str, str],
    strip: Sequence[str] = (),
) -> ModelProto:
    """The ONNX model between one tensor and some others.

    feed: (TensorFlow tensor to replace, name of the ONNX input, its NHWC shape); the ONNX input is NCHW float32.
    outputs: TensorFlow tensor → ONNX output name; 4-D outputs keep TensorFlow's axis order.
    strip: parts removed from node names, so that tensors have short, stable names.
    Raises ModelError that names the node for an operator, attribute or shape that can't be converted.
    """
    order = _reachable(graph, list(outputs), feed[0])
    readers = Counter(base(i) for n in order for i in graph.nodes[n].inputs)
    readers.update(base(t) for t in outputs)
    emitter = Emitter(strip, {base(t): name for t, name in outputs.items()}, readers)
    values: dict[str, Value] = {base(feed[0]): Tensor(feed[0], feed[2], first=feed[1])}
    for node_name in order:
        node = graph.nodes[node_name]
        values[node_name] = _convert_node(emitter, graph, node, values)
    declared = []
    for tensor, output in outputs.items():
        value = values[base(tensor)]
        if not isinstance(value, Tensor):
            raise ModelError(f"output {tensor!r} does not depend on the input {feed[0]!r}")
        emitter.output(value, output)
        declared.append(float_tensor(output, value.shape))
    n, h, w, c = feed[2]
    return emitter.graph.model(name, [float_tensor(feed[1], (n, c, h, w))], declared)


def base(tensor: str) -> str:
    """The node that makes a tensor: its name without ":0". Only first outputs are supported."""
    node, _, index = tensor.partition(":")
    if index not in ("", "0"):
        raise ModelError(f"tensor {tensor!r} is not its node's first output, which conversion does not support")
    return node


def _node(row: Mapping[str, Any]) -> Node:
    inputs = tuple(i for i in row.get("input", ()) if not i.startswith("^"))
    return Node(row["name"], row["op"], inputs, row.get("attr", {}))


def _read_weight(spec: Mapping[str, Any], payload: bytes, at: int, into: dict[str, Array]) -> int:
    name, shape = spec["name"], tuple(spec["shape"])
    packed = spec.get("quantization")
    kind = _DTYPES.get(packed["dtype"] if packed else spec["dtype"])
    if kind is None or (packed and "scale" not in packed):
        raise ModelError(f"weight {name!r} is stored as {packed or spec['dtype']}, which conversion does not read")
    size = int(math.prod(shape)) * kind.itemsize
    if at + size > len(payload):
        raise ModelError(f"weight {name!r} is cut short: weight files hold {len(payload)} bytes")
    values = np.frombuffer(payload, kind, math.prod(shape), at).reshape(shape)
    if packed:
        values = (values.astype(np.float64) * packed["scale"] + packed["min"]).astype(np.float32)
    into[name] = values
    return at + size


def _reachable(graph: GraphModel, wanted: Sequence[str], feed: str) -> list[str]:
    """Names of the nodes that `wanted` needs, inputs first, without going past `feed`."""
    order: list[str] = []
    seen = {base(feed)}
    stack = [(base(t), False) for t in reversed(wanted)]
    while stack:
        name, ready = stack.pop()
        if ready:
            order.append(name)
            continue
        if name in seen:
            continue
        seen.add(name)
        if name not in graph.nodes:
            raise ModelError(f"the graph has no node {name!r}")
        stack.append((name, True))
        stack.extend((base(i), False) for i in reversed(graph.nodes[name].inputs))
    return order


def _convert_node(emitter: Emitter, graph: GraphModel, node: Node, values: Mapping[str, Value]) -> Value:
    if node.op == "Const":
        if node.name not in graph.weights:
            raise ModelError(f"constant {node.name!r} has no weights")
        return graph.weights[node.name]
    operator = OPERATORS.get(node.op)
    if operator is None:
        raise ModelError(
            f"node {node.name!r} is a {node.op}, which conversion does not know",
            advice=f"it knows {', '.join(sorted(OPERATORS))}",
        )
    try:
        return operator(emitter, node.name, [values[base(i)] for i in node.inputs], node.attributes)
    except ModelError:
        raise
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as exc:
        raise ModelError(f"node {node.name!r} ({node.op}) can't be converted: {exc!r}") from exc
