"""Owns giving any model the one form that edge, worker and codecs know. Changes nothing in the model's own operators.

A canonical model has one input, the picture as the manifest describes it: `manifest.input`, float32 (1, 3, H, W).
What the model itself takes is made of it in the graph, see `plan.graph.feed`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph.constants import constant_tensor, dense
from splitmesh.plan.graph.emit import NUMBERS, Emitter
from splitmesh.plan.graph.feed import feed
from splitmesh.plan.graph.fold import fold_constants
from splitmesh.plan.graph.functions import inlined
from splitmesh.plan.graph.names import real_inputs, rename_reads, subgraphs
from splitmesh.plan.graph.shapes import declare_outputs, infer
from splitmesh.plan.graph.versions import means_the_same
from splitmesh.plan.manifest import Manifest

_FIRST_IR_WITHOUT_WEIGHTS_AS_INPUTS = 4
_LAST_IR = 10
"""Later ones add nothing that a canonical graph holds, and a runtime refuses files of those newer than itself."""
_LAST_OPSET = 26
"""What the runtime knows; of later versions those are taken that change nothing for the operators in use."""
_TO_FLOAT32 = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def canonical_model(model: ModelProto, manifest: Manifest, sizes: Mapping[str, int] = {}) -> ModelProto:
    """A copy of `model` with one input, `manifest.input`: float32 (1, 3, manifest.height, manifest.width).

    sizes: symbolic dimension → size, where neither the picture nor manifest.extra gives it. Outputs: those that the
    manifest reads, or all tensors of numbers; float16, bfloat16 and float64 become float32 under the same name. Local
    functions are inlined, weights are no longer listed as inputs, constants are initializers, sparse ones dense;
    recorded shapes of tensors in between are dropped. Metadata stays.
    Raises ModelError if the model does not fit the manifest, or takes or gives what is no tensor of numbers.
    """
    result = _with_constants_as_weights(model)
    graph = result.graph
    emitter = Emitter(result)
    fed = feed(emitter, result, manifest, sizes)
    rename_reads(graph.node, fed.instead)
    before = emitter.drain()
    _choose_outputs(result, manifest.output_names)
    if fed.batch > 1:
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")
    _as_float32(graph, emitter)
    nodes = [*before, *graph.node, *emitter.drain()]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.initializer.extend(emitter.constants)
    shape = (1, 3, manifest.height, manifest.width)
    graph.input.append(helper.make_tensor_value_info(manifest.input, TensorProto.FLOAT, shape))
    declare_outputs(result, fed.sizes)
    return result


def runnable_model(model: ModelProto, manifest: Manifest) -> ModelProto:
    """`canonical_model`, folded where there are branches.

    An If inside another, on what became a constant, crashes the runtime, which inlines it.
    """
    full = canonical_model(model, manifest)
    return fold_constants(full) if any(node.op_type == "If" for node in full.graph.node) else full


def _with_constants_as_weights(model: ModelProto) -> ModelProto:
    """A copy whose constants are all dense initializers. A copy, since protobuf gives back no memory of a part."""
    plain = inlined(model)
    result = ModelProto(
        ir_version=min(max(model.ir_version, _FIRST_IR_WITHOUT_WEIGHTS_AS_INPUTS), _LAST_IR),
        opset_import=plain.opset_import,
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc_string=model.doc_string,
        metadata_props=model.metadata_props,
    )
    for entry in result.opset_import:
        if entry.domain == "ai.onnx":
            entry.domain = ""
    source, graph = model.graph, result.graph
    graph.name, graph.doc_string = source.name, source.doc_string
    names = set(real_inputs(source))
    graph.input.extend(value for value in source.input if value.name in names)
    graph.output.extend(source.output)
    graph.quantization_annotation.extend(source.quantization_annotation)
    graph.metadata_props.extend(source.metadata_props)
    graph.initializer.extend(source.initializer)
    graph.initializer.extend(dense(each, each.values.name) for each in source.sparse_initializer)
    for node in plain.graph.node:
        tensor = constant_tensor(node)
        if tensor is None:
            graph.node.append(node)
        else:
            added = graph.initializer.add()
            added.CopyFrom(tensor)
            added.name = node.output[0]
    _tidy(graph.node)
    for entry in result.opset_import:
        if (
            not entry.domain
            and entry.version > _LAST_OPSET
            and means_the_same(graph.node, entry.version, _LAST_OPSET)
        ):
            entry.version = _LAST_OPSET
    return result


def _tidy(nodes: Iterable[NodeProto]) -> None:
    """One name for ONNX' own operators; no recorded shapes in bodies, which may be of another picture size."""
    for node in nodes:
        if node.domain == "ai.onnx":
            node.domain = ""
        for body in subgraphs(node):
            del body.value_info[:]
            _tidy(body.node)


def _choose_outputs(model: ModelProto, wanted: Collection[str]) -> None:
    """Keep what the manifest reads (nothing named: all) and can be carried. Element types are filled in."""
    graph = model.graph
    chosen = [value for value in graph.output if not wanted or value.name in wanted]
    if any(_elem_type(value) == TensorProto.UNDEFINED for value in chosen):
        infos = infer(model)
        for value in chosen:
            if value.type.WhichOneof("value") in (None, "tensor_type") and not _elem_type(value):
                value.type.tensor_type.elem_type = infos[value.name].dtype if value.name in infos else 0
    kept = [value for value in chosen if _elem_type(value) in (*NUMBERS, TensorProto.UNDEFINED) and _is_tensor(value)]
    if not kept:
        raise ModelError(
            f"the model gives {', '.join(value.name for value in graph.output)}: no tensor of numbers that is read",
            advice="export it with tensor outputs",
        )
    copies = []
    for value in kept:
        copy = ValueInfoProto()
        copy.CopyFrom(value)
        copies.append(copy)
    del graph.output[:]
    graph.output.extend(copies)


def _is_tensor(value: ValueInfoProto) -> bool:
    return bool(value.type.WhichOneof("value") == "tensor_type")


def _elem_type(value: ValueInfoProto) -> int:
    return value.type.tensor_type.elem_type


def _as_float32(graph: GraphProto, emitter: Emitter) -> None:
    """Let a Cast make each output of a narrower or wider float, from a tensor that gets another name. In place."""
    inner = {o.name: emitter.name(f"{o.name}_native") for o in graph.output if _elem_type(o) in _TO_FLOAT32}
    rename_reads(graph.node, inner)
    for node in graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = inner.get(name, name)
    for tensor in (*graph.initializer, *emitter.constants):
        tensor.name = inner.get(tensor.name, tensor.name)
    for value in graph.output:
        if value.name in inner:
            emitter.cast_output(inner[value.name], value.name)
            value.type.tensor_type.elem_type = TensorProto.FLOAT
