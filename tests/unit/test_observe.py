"""Shapes seen by running, on the real runtime: only those that hold for every picture."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import plan_graphs
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from splitmesh.errors import InferenceError, ModelError
from splitmesh.inference.planning.observe import observe
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.graph.steady import steady_shapes
from splitmesh.plan.graph.view import GraphView

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def node(op: str, inputs: list[str], *outputs: str, **attributes: object) -> NodeProto:
    return helper.make_node(op, inputs, list(outputs), **attributes)


def value(name: str, content: object, dtype: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(content, dtype), name)


def model(nodes: list[NodeProto], weights: Sequence[TensorProto] = (), *, output: str, opset: int = 13) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3, "h", "w"])],
        [helper.make_empty_tensor_value_info(output)],
        weights,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def pictures(count: int = 2, name: str = "x", shape: tuple[int, ...] = (1, 3, 6, 8)) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(11)
    return [{name: rng.uniform(0.1, 1, shape).astype(np.float32)} for _ in range(count)]


def save(proto: ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_types_and_shapes_of_all_kinds_of_tensors_also_behind_foreign_operators(tmp_path: Path) -> None:
    nodes = [
        node("Gelu", ["x"], "g", domain="com.microsoft"),
        node("Cast", ["g"], "half", to=TensorProto.FLOAT16),
        node("Cast", ["g"], "wide", to=TensorProto.DOUBLE),
        node("Cast", ["g"], "byte", to=TensorProto.UINT8),
        node("ArgMax", ["g"], "i", axis=1),
        node("ReduceMax", ["g"], "top", keepdims=0),
        node("Greater", ["g", "top"], "yes"),
        node("SequenceConstruct", ["g", "g"], "row"),
        node("ConcatFromSequence", ["row"], "joined", axis=0),
    ]
    path = save(model(nodes, output="yes"), tmp_path)
    names = ["g", "half", "wide", "byte", "i", "top", "yes", "row", "joined", "x", "no such tensor"]
    full = (1, 3, 6, 8)
    assert observe(path, pictures(), names) == {
        "g": (FLOAT, full),
        "half": (TensorProto.FLOAT16, full),
        "wide": (TensorProto.DOUBLE, full),
        "byte": (TensorProto.UINT8, full),
        "i": (INT64, (1, 1, 6, 8)),
        "top": (FLOAT, ()),
        "yes": (TensorProto.BOOL, full),
    }
    assert observe(path, pictures(), ["top"]) == {"top": (FLOAT, ())}
    assert observe(path, pictures(), []) == {}


BY_CONTENT = {
    "NonZero": [node("NonZero", ["x"], "t")],
    "Compress": [node("Greater", ["row", "zero"], "yes"), node("Compress", ["x", "yes"], "t", axis=3)],
    "Unique": [node("Unique", ["x"], "t")],
    "NonMaxSuppression": [
        node("Reshape", ["x", "boxes"], "b"),
        node("ReduceMax", ["b"], "s", axes=[2], keepdims=1),
        node("Transpose", ["s"], "s2", perm=[0, 2, 1]),
        node("NonMaxSuppression", ["b", "s2", "many"], "t"),
    ],
    "TopK": [node("Cast", ["top"], "k", to=INT64), node("TopK", ["row", "k"], "t", "ti", axis=0)],
    "Range": [node("Range", ["zero", "top", "one"], "t")],
    "ConstantOfShape": [node("Cast", ["top"], "k", to=INT64), node("ConstantOfShape", ["k"], "t")],
    "Expand": [node("Cast", ["top"], "k", to=INT64), node("Expand", ["zero", "k"], "t")],
    "Tile": [node("Cast", ["top"], "k", to=INT64), node("Tile", ["row", "k"], "t")],
    "Slice": [node("Cast", ["top"], "k", to=INT64), node("Slice", ["row", "z1", "k"], "t")],
    "Reshape": [
        node("ArgMax", ["row"], "a", axis=0),
        node("Mul", ["a", "z1"], "k"),
        node("Reshape", ["row", "k"], "t"),
    ],
    "Resize": [node("Resize", ["x", "", "scales"], "t")],
}


@pytest.mark.parametrize("op", BY_CONTENT)
def test_shapes_that_hang_on_what_is_in_the_picture_are_never_seen(tmp_path: Path, op: str) -> None:
    """Both pictures are the same, so that a run alone could not tell. What lies behind is unsteady, too."""
    nodes = [
        node("ReduceMax", ["x"], "max", keepdims=0),
        node("Mul", ["max", "five"], "ceil"),
        node("Ceil", ["ceil"], "whole"),
        node("ReduceMax", ["x"], "row", axes=[0, 1, 2], keepdims=0),
        *([node("Reshape", ["whole", "one_axis"], "top")] if op != "Range" else [node("Identity", ["whole"], "top")]),
        node("Concat", ["one1", "one1", "up", "up"], "scales", axis=0),
        node("Max", ["max", "one"], "up0"),
        node("Reshape", ["up0", "one_axis"], "up"),
    ]
    nodes[5:] = [nodes[6], nodes[7], nodes[5]]
    nodes += [
        *BY_CONTENT[op],
        node("Cast", ["t"], "f", to=FLOAT),
        node("Abs", ["f"], "behind"),
        node("Neg", ["x"], "aside"),
    ]
    weights = [
        *(value(name, n, np.float32) for name, n in (("zero", 0), ("one", 1), ("one1", [1]), ("five", 5))),
        value("one_axis", [1]),
        value("boxes", [1, -1, 4]),
        value("many", 3),
        value("z1", [0]),
    ]
    path = save(model(nodes, weights, output="behind"), tmp_path)
    same = pictures(1) * 2
    seen = observe(path, same, ["t", "f", "behind", "aside", "row"])
    assert seen == {"aside": (FLOAT, (1, 3, 6, 8)), "row": (FLOAT, (8,))}


def test_control_flow_on_the_picture_is_unsteady_and_on_constants_is_not(tmp_path: Path) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([node(op, ["one"], name)], name, [], [out])

    nodes = [
        node("ReduceMax", ["x"], "max", keepdims=0),
        node("Greater", ["max", "one"], "yes"),
        node("If", ["yes"], "t", then_branch=branch("a", "Neg"), else_branch=branch("b", "Abs")),
        node("If", ["always"], "c", then_branch=branch("d", "Neg"), else_branch=branch("e", "Abs")),
        node("Sum", ["x", "c"], "s"),
        node("Sum", ["s", "t"], "y"),
    ]
    path = save(model(nodes, [value("one", 1, np.float32), value("always", True, np.bool_)], output="y"), tmp_path)
    assert set(observe(path, pictures(), ["t", "c", "s", "y"])) == {"c", "s"}


def test_operands_that_follow_from_shapes_alone_are_steady(tmp_path: Path) -> None:
    nodes = [
        node("Gelu", ["x"], "g", domain="com.microsoft"),
        node("Shape", ["g"], "s"),
        node("Gather", ["s", "three"], "w"),
        node("Div", ["w", "two"], "half"),
        node("Slice", ["g", "zero", "half", "three"], "t"),
        node("ConstantOfShape", ["s"], "o"),
        node("Expand", ["t", "s4"], "e"),
    ]
    weights = [value("three", [3]), value("two", [2]), value("zero", [0]), value("s4", [2, 1, 1, 1])]
    proto = model(nodes, weights, output="e")
    assert {"t", "o", "e", "half"} <= steady_shapes(proto)
    seen = observe(save(proto, tmp_path), pictures(), ["t", "o", "e"])
    assert seen == {"t": (FLOAT, (1, 3, 6, 4)), "o": (FLOAT, (1, 3, 6, 8)), "e": (FLOAT, (2, 3, 6, 4))}


def test_a_shape_that_was_not_the_same_each_time_is_left_out(tmp_path: Path) -> None:
    path = save(model([node("Neg", ["x"], "n"), node("GlobalAveragePool", ["n"], "y")], output="y"), tmp_path)
    inputs = [*pictures(1), *pictures(1, shape=(1, 3, 6, 10))]
    assert observe(path, inputs, ["n", "y"]) == {"y": (FLOAT, (1, 3, 1, 1))}


def test_weights_in_other_files_are_found_and_the_file_is_left_alone(tmp_path: Path) -> None:
    proto = plan_graphs.residual_classifier()
    path = tmp_path / "m.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    before = sorted((file.name, file.stat().st_size) for file in tmp_path.iterdir())
    names = [name for each in proto.graph.node for name in each.output]
    shape = (1, 3, plan_graphs.SIZE, plan_graphs.SIZE)
    seen = observe(path, pictures(2, "image", shape), names)
    view = GraphView(load_model(path))
    assert seen == {name: (view.tensors[name].dtype, view.tensors[name].shape) for name in names}
    assert sorted((file.name, file.stat().st_size) for file in tmp_path.iterdir()) == before


def test_what_can_not_be_loaded_or_run_is_said(tmp_path: Path) -> None:
    path = save(model([node("Neg", ["x"], "y")], output="y"), tmp_path)
    with pytest.raises(InferenceError, match="2 inputs at least, not 1"):
        observe(path, pictures(1), ["y"])
    with pytest.raises(InferenceError, match=r"m\.onnx can't be run"):
        observe(path, pictures(2, "z"), ["y"])
    path = save(model([node("NoSuchOp", ["x"], "y")], output="y"), tmp_path)
    with pytest.raises(ModelError, match=r"m\.onnx can't be loaded"):
        observe(path, pictures(), ["y"])


HOG = """
import sys
from pathlib import Path
import numpy as np
from splitmesh.inference.planning.observe import observe

def peak_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

start = peak_kib()
inputs = [{"x": np.full((1, 3, 1000, 1000), fill, np.float32)} for fill in (1, 2)]
seen = observe(Path(sys.argv[1]), inputs, [f"t{i}" for i in range(80)])
print(len(seen), peak_kib() - start)
"""


def test_eighty_large_tensors_are_never_held_at_once(tmp_path: Path) -> None:
    nodes = [node("Neg", [f"t{i - 1}" if i else "x"], f"t{i}") for i in range(80)]
    path = save(model(nodes, output="t79"), tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", HOG, str(path)], capture_output=True, text=True, check=True, timeout=100
    )
    count, grown_kib = map(int, done.stdout.split())
    assert count == 80
    assert grown_kib < 200_000, "eighty tensors of 12 MB are 960 MB"
