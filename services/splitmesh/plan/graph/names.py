"""Owns the names in a graph: what a node reads, also inside its bodies, and renaming it. Changes no structure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from onnx import AttributeProto, GraphProto, NodeProto


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Bodies of a control-flow node (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def reads(node: NodeProto) -> list[str]:
    """Names of all tensors that the node needs, once: its inputs and what its bodies capture from outside."""
    names = dict.fromkeys(name for name in node.input if name)
    for body in subgraphs(node):
        names.update(dict.fromkeys(_captured(body)))
    return list(names)


def _captured(body: GraphProto) -> list[str]:
    """Outer names that a body reads, directly, in bodies of its own, or by handing one through as its output."""
    inner = {i.name for i in body.input} | set(weights(body))
    outer: list[str] = []
    for node in body.node:
        outer.extend(name for name in reads(node) if name not in inner)
        inner.update(name for name in node.output if name)
    outer.extend(o.name for o in body.output if o.name not in inner)
    return outer


def weights(graph: GraphProto) -> list[str]:
    """Names of the initializers, sparse ones too."""
    return [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]


def real_inputs(graph: GraphProto) -> list[str]:
    """Graph inputs that are not weights with a default (older files list those as inputs too)."""
    given = set(weights(graph))
    return [i.name for i in graph.input if i.name not in given]


def defined(graph: GraphProto) -> set[str]:
    """Names that the graph itself gives to tensors; not those of its bodies."""
    made = {name for node in graph.node for name in node.output if name}
    return made | {i.name for i in graph.input} | set(weights(graph))


def defined_inside(nodes: Iterable[NodeProto]) -> set[str]:
    """Names that bodies at any depth give to tensors."""
    bodies = [body for node in nodes for body in subgraphs(node)]
    return {name for body in bodies for name in defined(body) | defined_inside(body.node)}


def all_names(graph: GraphProto) -> set[str]:
    """Every name of a tensor that appears in the graph or in a body at any depth."""
    names = defined(graph) | {o.name for o in graph.output}
    for node in graph.node:
        names.update(node.input)
        for body in subgraphs(node):
            names |= all_names(body)
    return names


def fresh(wish: str, taken: set[str]) -> str:
    """`wish`, with a number behind it if that is needed to be new; adds it to `taken`."""
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}_{number}"
    taken.add(name)
    return name


def rename_reads(nodes: Iterable[NodeProto], new: Mapping[str, str]) -> None:
    """Let `nodes` and their bodies read `new[name]` where they read `name`. In place.

    A body that gives a tensor of its own such a name goes on reading that one.
    """
    for node in nodes:
        for index, name in enumerate(node.input):
            if name in new:
                node.input[index] = new[name]
        for body in subgraphs(node):
            inner = defined(body)
            seen = {old: name for old, name in new.items() if old not in inner}
            if seen:
                rename_reads(body.node, seen)
                for output in body.output:
                    output.name = seen.get(output.name, output.name)
