"""The half-size form: what is rounded, what is not, and that it stays valid and reversible."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from splitmesh.errors import ModelError
from splitmesh.models.convert_graph import GraphWriter, float_tensor, serialize
from splitmesh.models.convert_half import EXACT_BELOW, read_model, to_full, to_half


def two_layers(scale: float = 1.0) -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    g = GraphWriter()
    big = g.weight("big", (rng.standard_normal((100, 128)) * scale).astype(np.float32))
    small = g.weight("small", rng.standard_normal((128, 4)).astype(np.float32))
    g.node("MatMul", ["x", big], "hidden")
    g.node("MatMul", ["hidden", small], "y")
    return g.model("two", [float_tensor("x", (1, 100))], [float_tensor("y", (1, 4))])


def test_large_weights_are_rounded_and_small_ones_stay_exact() -> None:
    model = two_layers()
    half = to_half(model)
    weights = {w.name: numpy_helper.to_array(w) for w in half.graph.initializer}
    original = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    assert original["big"].size >= EXACT_BELOW > original["small"].size
    np.testing.assert_array_equal(weights["big.half"], original["big"].astype(np.float16))
    np.testing.assert_array_equal(weights["small"], original["small"])
    assert len(serialize(half)) < 0.6 * len(serialize(model))


def test_half_and_expanded_models_compute_the_same() -> None:
    half = to_half(two_layers())
    full = to_full(half)
    assert [n.op_type for n in full.graph.node] == ["MatMul", "MatMul"]
    assert {w.data_type for w in full.graph.initializer} == {onnx.TensorProto.FLOAT}
    x = np.random.default_rng(4).standard_normal((1, 100)).astype(np.float32)
    (a,), (b,) = ReferenceEvaluator(half).run(None, {"x": x}), ReferenceEvaluator(full).run(None, {"x": x})
    np.testing.assert_array_equal(a, b)


def test_expanding_is_deterministic_and_stable() -> None:
    assert serialize(to_full(to_half(two_layers()))) == serialize(to_full(to_half(two_layers())))
    plain = two_layers()
    assert serialize(to_full(plain)) == serialize(plain)
    assert serialize(to_half(to_full(to_half(plain)))) == serialize(to_half(plain))


def test_a_weight_beyond_float16_is_refused() -> None:
    with pytest.raises(ModelError, match="'big' exceeds"):
        to_half(two_layers(scale=1e6))


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(ModelError, match=r"weights\.onnx is not an ONNX model"):
        read_model(b"\xff\xfe not onnx", where="weights.onnx")


def test_a_writer_refuses_to_use_a_name_twice() -> None:
    g = GraphWriter()
    g.weight("w", np.zeros(2, np.float32))
    g.weight("w", np.zeros(2, np.float32))
    with pytest.raises(ModelError, match="two different weights"):
        g.weight("w", np.ones(2, np.float32))
    with pytest.raises(ModelError, match="'w'"):
        g.node("Relu", ["x"], "w")
    with pytest.raises(ModelError, match="int16"):
        g.weight("v", np.zeros(2, np.int16))
