from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import plan_graphs
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx.external_data_helper import convert_model_to_external_data

from splitmesh.errors import ModelError
from splitmesh.plan.cuts.cut import Crossing, Cut
from splitmesh.plan.cuts.extract import PARITY_LIMIT, Run, parity_error, relative_error, split_model
from splitmesh.plan.cuts.frontiers import legal_frontiers, survey
from splitmesh.plan.graph.view import GraphView


def run(model: ModelProto | Path, *, optimise: bool = True) -> Run:
    """Runs it by the runtime; like a wire, refuses what is not float32."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    assert all(i.type == "tensor(float)" for i in session.get_inputs())
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def pictures(count: int, side: int = plan_graphs.SIZE) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [{"image": rng.uniform(-1, 1, (1, 3, side, side)).astype(np.float32)} for _ in range(count)]


def cut_through(model: ModelProto, *tensors: str) -> Cut:
    cuts = [*legal_frontiers(GraphView(model)), *survey(GraphView(model)).candidates]
    return next(c for c in cuts if {t.name for t in c.tensors} == set(tensors))


BUILDS = [
    plan_graphs.residual_classifier,
    plan_graphs.two_outputs,
    plan_graphs.with_if,
    plan_graphs.quantised,
    plan_graphs.three_branches,
]


@pytest.mark.parametrize("build", BUILDS)
def test_every_candidate_splits_into_parts_that_equal_the_whole(build: Callable[[], ModelProto]) -> None:
    model = build()
    whole = run(model)
    cases = [(inputs, whole(inputs)) for inputs in pictures(3)]
    cuts = survey(GraphView(model)).candidates
    assert cuts
    for cut in cuts:
        head, tail = split_model(model, cut)
        for part in (head, tail):
            onnx.checker.check_model(part, full_check=True)
        adapted = any(t.adapted for t in cut.tensors)
        assert adapted or len(head.graph.node) + len(tail.graph.node) == len(model.graph.node)
        assert (
            {o.name: _shape(o) for o in head.graph.output}
            == cut.shapes
            == {i.name: _shape(i) for i in tail.graph.input}
        )
        assert parity_error(run(head), run(tail), cases) <= PARITY_LIMIT, cut


def test_parity_sees_a_wrong_tail() -> None:
    model = plan_graphs.residual_classifier()
    whole = run(model)
    head, tail = split_model(model, survey(GraphView(model)).candidates[1])
    weights = next(t for t in tail.graph.initializer if t.name == "head_b")
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) + 0.01, "head_b"))
    cases = [(inputs, whole(inputs)) for inputs in pictures(2)]
    assert parity_error(run(head), run(tail), cases) > PARITY_LIMIT


@pytest.mark.parametrize(
    ("got", "wanted", "expected"),
    [
        (None, [1.0, 1.0], np.inf),
        ([[1.0, 1.0]], [1.0, 1.0], np.inf),
        ([1.0, 1.5], [1.0, 1.0], 0.5),
        ([1.0, np.nan], [1.0, 1.0], np.inf),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, 1.0], [1.0, np.nan], np.inf),
        ([np.inf, 1.0], [np.inf, 2.0], 0.5),
        ([np.inf, 1.0], [-np.inf, 1.0], np.inf),
        (np.array([1, 255], np.uint8), np.array([2, 255], np.uint8), 1 / 255),
        (np.array([3, -4], np.int64), np.array([3, -4], np.int64), 0.0),
        (np.array([True, False]), np.array([True, True]), 1.0),
        (np.empty((0, 4), np.float32), np.empty((0, 4), np.float32), 0.0),
        (np.float16([1.0]), np.float16([2.0]), 0.5),
    ],
)
def test_relative_error(got: object, wanted: object, expected: float) -> None:
    have = {} if got is None else {"a": np.asarray(got)}
    assert relative_error(have, {"a": np.asarray(wanted)}) == pytest.approx(expected)


def test_split_refuses_a_cut_that_the_input_bypasses() -> None:
    model = plan_graphs.residual_classifier()
    shape = (1, 8, 12, 12)
    wrong = Cut("n3-wrong", (Crossing("inner0", shape, "float32", shape, "inner0"),), 1152, 3)
    with pytest.raises(ModelError, match=r"n3-wrong-tail .*image"):
        split_model(model, wrong)
    absent = Cut("n3-absent", (Crossing("nowhere", shape, "float32", shape, "nowhere"),), 1152, 3)
    with pytest.raises(ModelError, match=r"n3-absent-head .*nowhere"):
        split_model(model, absent)


def test_split_refuses_a_tail_that_would_make_what_it_is_given() -> None:
    b = plan_graphs.Builder()
    b.weights.append(onnx.numpy_helper.from_array(np.array([2, 4]), "parts"))
    before = b.conv("image", "before", (6, 3), stride=2)
    b.nodes.append(helper.make_node("Split", [before, "parts"], ["left", "right"], axis=1))
    b.conv(b.add("Concat", ["right", "left"], "swapped", axis=1), "out", (2, 6), stride=2)
    model = b.model({"out": [1, 2, 12, 12]})
    shapes = {"before": (1, 6, 24, 24), "left": (1, 2, 24, 24)}
    wrong = Cut("n1-wrong", tuple(Crossing(n, s, "float32", s, n) for n, s in shapes.items()), 4608, 1)
    with pytest.raises(ModelError, match=r"n1-wrong-tail .*make left twice"):
        split_model(model, wrong)


def test_constants_that_both_sides_read_are_copied_and_others_are_not() -> None:
    model = plan_graphs.residual_classifier()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["half"], value_float=0.5))
    for node in model.graph.node:
        if node.output[0] in ("stem_relu", "block2"):
            node.op_type = "Mul"
            node.input.append("half")
    whole = run(model)
    cases = [(inputs, whole(inputs)) for inputs in pictures(2)]
    head, tail = split_model(model, cut_through(model, "down1_relu"))
    assert [sum(n.op_type == "Constant" for n in part.graph.node) for part in (head, tail)] == [1, 1]
    weights = [{t.name for t in part.graph.initializer} for part in (head, tail)]
    assert not weights[0] & weights[1]
    assert weights[0] | weights[1] == {t.name for t in model.graph.initializer}
    assert parity_error(run(head), run(tail), cases) <= PARITY_LIMIT


def test_a_head_may_read_its_own_output() -> None:
    """In a residual block the head's output is needed inside the head as well."""
    model = plan_graphs.residual_classifier()
    head, tail = split_model(model, cut_through(model, "down0_relu", "inner0_relu"))
    assert [o.name for o in head.graph.output] == ["down0_relu", "inner0_relu"]
    case = pictures(1)[0]
    assert relative_error(run(tail)(run(head)(case)), run(model)(case)) <= PARITY_LIMIT


@pytest.mark.parametrize(
    ("dtype", "shape", "wire_shape"),
    [
        (TensorProto.FLOAT16, (1, 6, 24, 24), (1, 6, 24, 24)),
        (TensorProto.DOUBLE, (6, 576), (1, 6, 576)),
        (TensorProto.UINT8, (1, 6, 24, 24), (1, 6, 24, 24)),
        (TensorProto.INT8, (6, 24, 24), (1, 6, 24, 24)),
        (TensorProto.FLOAT, (3456,), (1, 3456)),
        (TensorProto.FLOAT, (1, 2, 3, 24, 24), (1, 2, 3, 576)),
        (TensorProto.FLOAT16, (2, 3, 4, 12, 12), (1, 2, 3, 576)),
    ],
)
def test_other_types_and_ranks_travel_as_float32_and_come_back(
    dtype: int, shape: tuple[int, ...], wire_shape: tuple[int, ...]
) -> None:
    b = plan_graphs.Builder()
    now = b.add("Mul", [b.conv("image", "c0", (6, 3), stride=2), b.weight("w", 1, 1, 1, 1)], "m")
    b.weights.append(onnx.numpy_helper.from_array(np.array(shape), "shape"))
    b.weights.append(onnx.numpy_helper.from_array(np.array([1, 6, 24, 24]), "back"))
    lowest = 0.0 if dtype == TensorProto.UINT8 else -100.0
    b.weights.append(onnx.numpy_helper.from_array(np.float32(lowest), "low"))
    b.weights.append(onnx.numpy_helper.from_array(np.float32(100.0), "high"))
    now = b.add("Clip", [b.add("Mul", [now, b.weight("gain", 1)], "g"), "low", "high"], "clipped")
    b.add("Cast", [b.add("Reshape", [now, "shape"], "shaped")], "odd", to=dtype)
    plain = b.add("Reshape", [b.add("Cast", ["odd"], "plain", to=TensorProto.FLOAT), "back"], "restored")
    b.conv(plain, "out", (2, 6), stride=2)
    model = b.model({"out": [1, 2, 12, 12]})
    cut = cut_through(model, "odd")
    (crossing,) = cut.tensors
    assert (crossing.graph_shape, crossing.shape) == (shape, wire_shape)
    head, tail = split_model(model, cut)
    for part in (head, tail):
        onnx.checker.check_model(part, full_check=True)
    for case in pictures(2):
        wire = run(head)(case)
        (value,) = wire.values()
        assert (value.dtype, value.shape) == (np.float32, wire_shape)
        assert relative_error(run(tail)(wire), run(model)(case)) <= PARITY_LIMIT
        # A codec leaves values beside the whole numbers, and beyond the type's range.
        if dtype in (TensorProto.UINT8, TensorProto.INT8):
            exact = run(tail)(wire)
            for off in (-0.4, 0.4):
                noisy = {name: value + np.float32(off) for name, value in wire.items()}
                assert relative_error(run(tail)(noisy), exact) == 0
            beyond = run(tail)({name: np.full_like(value, 400.0) for name, value in wire.items()})
            top = run(tail)({name: np.full_like(value, 255 if dtype == TensorProto.UINT8 else 127) for name in wire})
            assert relative_error(beyond, top) == 0


def test_border_copies_the_batch_axis_instead_of_stating_it() -> None:
    """Heads and tails of a batchable model must stay batchable."""
    b = plan_graphs.Builder()
    b.weights.append(onnx.numpy_helper.from_array(np.array([0, 2, 3, 24, 24]), "shape"))
    b.weights.append(onnx.numpy_helper.from_array(np.array([0, 6, 24, 24]), "back"))
    five = b.add("Relu", [b.add("Reshape", [b.conv("image", "c0", (6, 3), stride=2), "shape"], "five")], "odd")
    b.conv(b.add("Reshape", [five, "back"], "four"), "out", (2, 6), stride=2)
    model = b.model({"out": [1, 2, 12, 12]})
    head, tail = split_model(model, cut_through(model, "odd"))
    for part in (head, tail):
        del part.graph.value_info[:]
        for value in (*part.graph.input, *part.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "N"
    two = {"image": np.concatenate([case["image"] for case in pictures(2)])}
    singles = [run(model)(case)["out"] for case in pictures(2)]
    assert relative_error(run(tail)(run(head)(two)), {"out": np.concatenate(singles)}) <= PARITY_LIMIT


def test_skeletons_are_split_without_their_weights(tmp_path: Path) -> None:
    model = plan_graphs.residual_classifier()
    case = pictures(1)[0]
    wanted = run(model)(case)
    convert_model_to_external_data(model, location="weights.bin", size_threshold=64)
    onnx.save(model, tmp_path / "full.onnx")
    skeleton = onnx.load(tmp_path / "full.onnx", load_external_data=False)
    view = GraphView(skeleton)
    assert survey(view) == survey(GraphView(plan_graphs.residual_classifier()))
    for cut in survey(view).candidates:
        paths = [tmp_path / f"{cut.name}.{part}.onnx" for part in ("head", "tail")]
        for path, part in zip(paths, split_model(skeleton, cut), strict=True):
            assert part.ByteSize() < 6000
            path.write_bytes(part.SerializeToString())
        head, tail = (run(path) for path in paths)
        assert relative_error(tail(head(case)), wanted) <= PARITY_LIMIT


def test_functions_opsets_and_metadata_are_kept() -> None:
    model = plan_graphs.residual_classifier()
    body = [helper.make_node("Add", ["x", "x"], ["y"])]
    model.functions.append(
        helper.make_function("own", "Twice", ["x"], ["y"], body, [helper.make_opsetid("", 13)], [])
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.helper.set_model_props(model, {"author": "me"})
    for node in model.graph.node:
        if node.output[0] in ("stem_relu", "block2"):
            node.op_type, node.domain = "Twice", "own"
    case = pictures(1)[0]
    head, tail = split_model(model, cut_through(model, "down1_relu"))
    for part in (head, tail):
        assert part.functions == model.functions and part.opset_import == model.opset_import
        assert part.metadata_props == model.metadata_props and part.ir_version == model.ir_version
    assert relative_error(run(tail)(run(head)(case)), run(model)(case)) <= PARITY_LIMIT


def test_shapes_of_what_a_part_does_not_make_are_left_out() -> None:
    model = onnx.shape_inference.infer_shapes(plan_graphs.residual_classifier())
    head, tail = split_model(model, cut_through(model, "down1_relu"))
    for part in (head, tail):
        made = {name for node in part.graph.node for name in node.output}
        stated = {v.name for v in part.graph.value_info}
        assert stated and stated <= made - {o.name for o in part.graph.output}


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
