"""Owns which shapes can change from picture to picture. Runs nothing: what it calls steady may still be unknown."""

from __future__ import annotations

from onnx import ModelProto

from splitmesh.plan.graph.names import reads, weights
from splitmesh.plan.graph.view import RANDOM_OPS

_BY_CONTENT = frozenset(
    {"NonZero", "NonMaxSuppression", "Unique", "Compress", "If", "Loop", "Scan", "StringSplit", "ConcatFromSequence"}
    | {"SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceMap"}
    | {"SplitToSequence", "Optional", "OptionalGetElement"}
)
"""Operators whose output's shape hangs on the values that they read."""

_BY_OPERAND = {
    **dict.fromkeys(("Range", "ConstantOfShape", "BlackmanWindow", "HammingWindow", "HannWindow"), 0),
    **dict.fromkeys(
        ("Reshape", "Expand", "Tile", "Slice", "Resize", "Upsample", "Pad", "TopK", "OneHot", "Split"), 1
    ),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "CenterCropPad", "Col2Im", "AffineGrid", "DFT", "STFT"), 1),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"), 1),
    **dict.fromkeys(("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"), 1),
    "MaxUnpool": 2,
}
"""Operators whose output's shape hangs on the values of their operands from this one on."""

_MEASURING = ("Shape", "Size")


def steady_shapes(model: ModelProto) -> set[str]:
    """Tensors of the top-level graph whose shape follows from the shape of the inputs, whatever is in them.

    A tensor behind one whose shape does not is none of them.
    """
    graph = model.graph
    fixed = set(weights(graph))
    """Tensors whose values follow from shapes and constants alone."""
    moving: set[str] = set()
    seen = {i.name for i in graph.input} | fixed
    for node in graph.node:
        made = [name for name in node.output if name]
        seen.update(made)
        needed = reads(node)
        if node.op_type not in RANDOM_OPS and fixed.issuperset(needed):
            fixed.update(made)
        elif not moving.isdisjoint(needed) or node.op_type in _BY_CONTENT:
            moving.update(made)
        elif node.op_type in _MEASURING:
            fixed.update(made)
        elif node.op_type in _BY_OPERAND:
            operands = filter(None, node.input[_BY_OPERAND[node.op_type] :])
            if not fixed.issuperset(operands):
                moving.update(made)
    return seen - moving
