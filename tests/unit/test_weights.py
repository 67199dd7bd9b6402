from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import plan_graphs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from splitmesh.errors import ModelError, OutputError
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.weights import INLINE_BYTES, WeightStore, initializers


def weights_model(arrays: dict[str, np.ndarray]) -> ModelProto:
    """y = x; the weights are there and unused."""
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "weights",
        port[:1],
        port[1:],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def saved(model: ModelProto, path: Path) -> Path:
    return plan_graphs.save(model, path)


def places(model: ModelProto) -> dict[str, tuple[int, int]]:
    """Offset and length of every external weight."""
    found = {}
    for tensor in initializers(model.graph):
        facts = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location == TensorProto.EXTERNAL:
            assert facts.pop("location") == "weights.bin" and not tensor.raw_data
            found[tensor.name] = (int(facts.pop("offset")), int(facts.pop("length")))
            assert not facts
    return found


shapes = st.lists(st.integers(1, 30), min_size=0, max_size=3)
dtypes = st.sampled_from(["float32", "float16", "int64", "int8", "uint8", "bool", "float64"])


@given(st.lists(st.tuples(shapes, dtypes, st.integers(0, 3)), max_size=8))
def test_any_weights_come_back_equal_and_large_ones_are_aligned(
    tmp_path_factory: pytest.TempPathFactory, specs: list[tuple[list[int], str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    arrays = {
        f"w{index}": np.random.default_rng(seed).integers(0, 2, shape).astype(dtype)
        for index, (shape, dtype, seed) in enumerate(specs)
    }
    with WeightStore(folder / "weights.bin") as store:
        model = store.externalise(weights_model(arrays))
    assert set(places(model)) == {name for name, array in arrays.items() if array.nbytes >= INLINE_BYTES}
    assert all(offset % 64 == 0 for offset, _ in places(model).values())
    back = onnx.load(saved(model, folder / "model.onnx"))
    for tensor in back.graph.initializer:
        array = numpy_helper.to_array(tensor)
        assert array.dtype == arrays[tensor.name].dtype
        np.testing.assert_array_equal(array, arrays[tensor.name])


def test_equal_content_is_stored_once_and_pages_start_large_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small, large = rng.random(300).astype(np.float32), rng.random(300_000).astype(np.float32)
    with WeightStore(tmp_path / "weights.bin") as store:
        first = places(store.externalise(weights_model({"a": small, "b": large, "c": small.copy()})))
        before = store.size_bytes
        second = places(store.externalise(weights_model({"z": large.copy()})))
        assert store.size_bytes == before == (tmp_path / "weights.bin").stat().st_size
    assert first["a"] == first["c"] == (0, 1200)
    assert first["b"] == second["z"] == (4096, 1_200_000)


def test_the_same_models_give_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with WeightStore(tmp_path / name / "weights.bin") as store:
            store.externalise(plan_graphs.residual_classifier())
            store.externalise(plan_graphs.two_outputs())
        files.append((tmp_path / name / "weights.bin").read_bytes())
    assert files[0] == files[1] and len(files[0]) > 4000


def test_typed_fields_are_stored_like_raw_data_and_texts_stay(tmp_path: Path) -> None:
    model = weights_model({})
    model.graph.initializer.append(helper.make_tensor("typed", TensorProto.INT64, [400], list(range(400))))
    model.graph.initializer.append(helper.make_tensor("zeros", TensorProto.INT64, [4000], [0] * 4000))
    model.graph.initializer.append(helper.make_tensor("texts", TensorProto.STRING, [300], [b"text"] * 300))
    with WeightStore(tmp_path / "weights.bin") as store:
        store.externalise(model)
    assert places(model) == {"typed": (0, 3200), "zeros": (3200, 32_000)}
    back = {t.name: numpy_helper.to_array(t) for t in onnx.load(saved(model, tmp_path / "m.onnx")).graph.initializer}
    assert back["typed"].tolist() == list(range(400)) and not back["zeros"].any()
    assert set(back["texts"].tolist()) <= {"text", b"text"} and back["texts"].shape == (300,)


def test_a_skeleton_costs_nothing_and_a_foreign_reference_is_refused(tmp_path: Path) -> None:
    with WeightStore(tmp_path / "weights.bin") as store:
        skeleton = store.externalise(plan_graphs.residual_classifier())
        before, size = skeleton.SerializeToString(), store.size_bytes
        assert store.externalise(skeleton).SerializeToString() == before and store.size_bytes == size
        foreign = ModelProto.FromString(before)
        big = next(t for t in foreign.graph.initializer if t.external_data)
        big.external_data[0].value = "other.bin"
        with pytest.raises(ModelError, match=rf"{big.name} lies in 'other.bin'"):
            store.externalise(foreign)
        big.external_data[0].value = "weights.bin"
        next(e for e in big.external_data if e.key == "offset").value = str(size)
        with pytest.raises(ModelError, match="behind the end"):
            store.externalise(foreign)
    with pytest.raises(OutputError, match=r"weights\.bin can't be made"):
        WeightStore(tmp_path / "weights.bin")


def if_with_large_bodies() -> ModelProto:
    """Each branch of an If multiplies by a weight of its own."""
    rng = np.random.default_rng(5)
    bodies = []
    for name in ("then", "else"):
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [64, 64])
        weight = numpy_helper.from_array(rng.random((64, 64)).astype(np.float32), f"{name}_w")
        node = helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])
        bodies.append(helper.make_graph([node], name, [], [out], [weight]))
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
        helper.make_node("Greater", ["peak", "half"], ["high"]),
        helper.make_node("If", ["high"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in "xy"]
    half = numpy_helper.from_array(np.array(0.5, np.float32), "half")
    graph = helper.make_graph(nodes, "if", port[:1], port[1:], [half])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("make", [plan_graphs.residual_classifier, plan_graphs.two_outputs, if_with_large_bodies])
def test_the_runtime_gives_the_same_bits_with_weights_outside(make: object, tmp_path: Path) -> None:
    model = make()  # type: ignore[operator]
    inline = open_session(saved(model, tmp_path / "inline.onnx"))
    (tmp_path / "parts").mkdir()
    with WeightStore(tmp_path / "parts" / "weights.bin") as store:
        store.externalise(model)
    assert places(model)
    outside = open_session(saved(model, tmp_path / "parts" / "model.onnx"))
    ((name, (shape, _)),) = inline.inputs.items()
    for scale in (0.1, 1.0):
        given = {name: (np.random.default_rng(1).random(shape) * scale).astype(np.float32)}
        wanted = inline.run(given)
        for key, value in outside.run(given).items():
            np.testing.assert_array_equal(value, wanted[key])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at the memory map of the process")
def test_the_runtime_maps_the_weights_into_memory(tmp_path: Path) -> None:
    """A weight that no kernel repacks is read from the page cache: several sessions share it."""
    rng = np.random.default_rng(0)
    table = numpy_helper.from_array(rng.random((4096, 128)).astype(np.float32), "table")
    index = helper.make_tensor_value_info("index", TensorProto.INT64, [1])
    row = helper.make_tensor_value_info("row", TensorProto.FLOAT, [1, 128])
    graph = helper.make_graph([helper.make_node("Gather", ["table", "index"], ["row"])], "g", [index], [row], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with WeightStore(tmp_path / "weights.bin") as store:
        store.externalise(model)
    session = ort.InferenceSession(str(saved(model, tmp_path / "m.onnx")), providers=["CPUExecutionProvider"])
    assert str(tmp_path / "weights.bin") in Path("/proc/self/maps").read_text()
    (got,) = session.run(None, {"index": np.array([7])})
    np.testing.assert_array_equal(got[0], numpy_helper.to_array(table)[7])
