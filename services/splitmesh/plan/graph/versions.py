"""Owns whether ONNX' own operators mean the same in two of its versions. Converts none."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto, defs

from splitmesh.plan.graph.names import subgraphs

DEFAULT_DOMAINS = ("", "ai.onnx")


def means_the_same(nodes: Iterable[NodeProto], version: int, other: int) -> bool:
    """Whether all of ONNX' own operators among `nodes`, and in their bodies, look alike to a caller in both versions.

    Many versions of an operator differ in nothing but the element types that they take.
    """
    return all(_signature(name, version) == _signature(name, other) for name in _operators(nodes))


def _operators(nodes: Iterable[NodeProto]) -> set[str]:
    names = set()
    for node in nodes:
        if node.domain in DEFAULT_DOMAINS:
            names.add(node.op_type)
        for body in subgraphs(node):
            names |= _operators(body.node)
    return names


def _signature(operator: str, version: int) -> tuple[object, ...]:
    try:
        schema = defs.get_schema(operator, max_inclusive_version=version, domain="")
    except defs.SchemaError:
        return (version,)
    attributes = sorted((name, str(each.default_value)) for name, each in schema.attributes.items())
    ports = [(port.name, str(port.option)) for port in (*schema.inputs, *schema.outputs)]
    return (*attributes, *ports)
