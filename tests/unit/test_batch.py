"""Opening the batch axis: what a one-picture export hard-wires is loosened, and a run tells whether it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from plan_graphs import SIZE, residual_classifier, two_outputs

from splitmesh.inference.planning.batch import batch_holds
from splitmesh.plan.graph.batch import open_batch

RNG = np.random.default_rng(11)


def singles(shape: tuple[int, ...] = (1, 3, SIZE, SIZE)) -> list[dict[str, np.ndarray]]:
    return [{"image": RNG.standard_normal(shape).astype(np.float32)} for _ in range(4)]


def net(nodes: list[onnx.NodeProto], out: tuple[int, ...], **constants: np.ndarray) -> ModelProto:
    """image (1, 4, 6, 6) → out, through `nodes`."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def hard_reshape() -> ModelProto:
    """As detectors end: (1, 4, 6, 6) → (1, 36, 4) by a constant target."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "target"], ["out"]),
    ]
    return net(nodes, (1, 36, 4), target=ints(1, -1, 4))


def windows() -> ModelProto:
    """As Swin does: windows become the leading axis, are multiplied, and go back."""
    nodes = [
        helper.make_node("Reshape", ["image", "split"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["m"]),
        helper.make_node("Reshape", ["m", "join"], ["out"]),
    ]
    weights = RNG.standard_normal((9, 9)).astype(np.float32)
    return net(nodes, (1, 4, 6, 6), split=ints(4, 4, 9), join=ints(1, 4, 6, 6), w=weights)


def class_token() -> ModelProto:
    """As ViT does: a constant token is put before the patches."""
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["p"]),
        helper.make_node("Concat", ["token", "p"], ["out"], axis=1),
    ]
    return net(nodes, (1, 5, 36), flat=ints(1, 4, 36), token=RNG.standard_normal((1, 1, 36)).astype(np.float32))


def resized() -> ModelProto:
    nodes = [helper.make_node("Resize", ["image", "", "", "sizes"], ["out"], mode="nearest")]
    return net(nodes, (1, 4, 12, 18), sizes=ints(1, 4, 12, 18))


def mixed() -> ModelProto:
    """Subtracts the mean over the batch: legal for any size, and wrong."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["image", "mean"], ["rest"]),
        helper.make_node("Add", ["rest", "image"], ["out"]),
    ]
    return net(nodes, (1, 4, 6, 6))


def squeezed() -> ModelProto:
    """The batch axis is thrown away, then made anew."""
    nodes = [
        helper.make_node("Squeeze", ["image", "first"], ["s"]),
        helper.make_node("Unsqueeze", ["s", "first"], ["out"]),
    ]
    return net(nodes, (1, 4, 6, 6), first=ints(0))


def no_batch_out() -> ModelProto:
    nodes = [helper.make_node("Reshape", ["image", "target"], ["out"])]
    return net(nodes, (36, 4), target=ints(36, 4))


SMALL = (1, 4, 6, 6)


@pytest.mark.parametrize(
    ("build", "shape", "holds"),
    [
        (residual_classifier, (1, 3, SIZE, SIZE), True),
        (two_outputs, (1, 3, SIZE, SIZE), True),
        (hard_reshape, SMALL, True),
        (windows, SMALL, True),
        (class_token, SMALL, True),
        (resized, SMALL, True),
        (mixed, SMALL, False),
        (squeezed, SMALL, False),
    ],
)
def test_a_batch_gives_what_single_pictures_give(
    tmp_path: Path, build: Callable[[], ModelProto], shape: tuple[int, ...], holds: bool
) -> None:
    opened = open_batch(build())
    assert opened is not None
    path = tmp_path / "open.onnx"
    onnx.save(opened, path)
    assert batch_holds(path, singles(shape)) is holds


@pytest.mark.parametrize("build", [hard_reshape, windows, class_token, resized])
def test_without_loosening_it_would_not_hold(tmp_path: Path, build: Callable[[], ModelProto]) -> None:
    """The rewriting is what makes these work, not the runtime's patience."""
    model = build()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    path = tmp_path / "open.onnx"
    onnx.save(model, path)
    assert not batch_holds(path, singles(SMALL))


def test_an_output_without_a_batch_axis_can_not_be_opened() -> None:
    assert open_batch(no_batch_out()) is None


def test_the_model_that_was_given_stays_as_it_was() -> None:
    model = hard_reshape()
    before = model.SerializeToString(deterministic=True)
    open_batch(model)
    assert model.SerializeToString(deterministic=True) == before


def test_one_picture_gives_the_same_bits(tmp_path: Path) -> None:
    from splitmesh.inference.session import open_session

    plain, opened = tmp_path / "plain.onnx", tmp_path / "open.onnx"
    model = residual_classifier()
    onnx.save(model, plain)
    rewritten = open_batch(model)
    assert rewritten is not None
    onnx.save(rewritten, opened)
    one = singles()[0]
    np.testing.assert_array_equal(open_session(plain).run(one)["logits"], open_session(opened).run(one)["logits"])
