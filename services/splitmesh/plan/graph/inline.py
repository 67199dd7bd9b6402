"""Owns putting a branch of an If in the If's place. Decides not which one."""

from __future__ import annotations

from onnx import GraphProto, NodeProto, TensorProto, helper

from splitmesh.plan.graph.constants import constant_tensor
from splitmesh.plan.graph.names import defined, fresh, rename_reads


def inline_branch(node: NodeProto, branch: GraphProto, taken: set[str]) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nodes that make the outputs of the If `node` as `branch` does, and the weights that they need.

    taken: all names of the model; names inside the branch become new ones, which are added to it.
    """
    made = {name for inner in branch.node for name in inner.output if name}
    new = {name: fresh(name, taken) for name in sorted(defined(branch))}
    copied: list[NodeProto] = []
    for value, output in zip(branch.output, node.output, strict=True):
        if not output:
            continue
        if value.name in made:
            made.remove(value.name)
            new[value.name] = output
        else:  # a weight, a tensor from outside, or handed out twice
            source = new.get(value.name, value.name)
            copied.append(helper.make_node("Identity", [source], [output], name=fresh(output, taken)))
    nodes: list[NodeProto] = []
    weights: list[TensorProto] = []
    for inner in branch.node:
        node = NodeProto()
        node.CopyFrom(inner)
        rename_reads([node], new)
        for index, name in enumerate(node.output):
            node.output[index] = new.get(name, name)
        tensor = constant_tensor(node)
        if tensor is None:
            nodes.append(node)
        else:
            weights.append(_named(tensor, node.output[0]))
    weights.extend(_named(tensor, new[tensor.name]) for tensor in branch.initializer)
    return [*nodes, *copied], weights


def _named(tensor: TensorProto, name: str) -> TensorProto:
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy
