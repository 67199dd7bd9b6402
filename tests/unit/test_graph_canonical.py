"""What a model takes, made of the picture in the graph: run by the real runtime against the model as it came."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from graph_models import (
    FLOAT,
    HALF,
    IR_OF_OPSET,
    OPSETS,
    H,
    W,
    build,
    check,
    feed,
    manifest,
    mirror,
    picture,
    port,
    run,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.plan.graph.canonical import canonical_model


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8", "int8", "int32", "int64", "bool"])
def test_layouts_and_element_types(dtype: str, layout: str, opset: int) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for channels, batch in itertools.product((1, 3), (1, "N")):
        shape = [batch, channels, H, W] if layout == "NCHW" else [batch, H, W, channels]
        described = manifest(layout=layout)
        result = canonical_model(mirror(kind, shape, opset), described)
        check(result, described)
        tensors = feed(described, picture())
        native = tensors["x"]
        if channels == 1:
            native = np.einsum("nchw,c->nhw", native.astype(np.float64), [0.299, 0.587, 0.114])[:, None]
        if layout == "NHWC":
            native = native.transpose(0, 2, 3, 1)
        (got,) = run(result, tensors).values()
        if dtype in ("float32", "float16", "float64"):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, native.astype(dtype), rtol=2e-3 if dtype == "float16" else 1e-6)
        else:
            assert got.dtype == dtype
            ends = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
            want = np.clip(np.floor(native + 0.5), *ends)
            np.testing.assert_allclose(got.astype(np.int64), want, atol=0 if channels == 3 else 1)


@pytest.mark.parametrize("opset", OPSETS)
def test_a_model_that_takes_no_picture_gets_the_first_of_it(opset: int) -> None:
    for shape in ([1, 7, 5], ["N", "T"], [3, H, W], [2, 3, 4, 5, 1]):
        sizes = [n if isinstance(n, int) else {"N": 1, "T": 40}[n] for n in shape]
        described = manifest(layout="flat", shape=sizes)
        result = canonical_model(mirror(TensorProto.INT64, shape, opset), described)
        check(result, described)
        tensors = feed(described, picture())
        (got,) = run(result, tensors).values()
        want = np.floor(tensors["x"].ravel()[: np.prod(sizes)].reshape(sizes) + 0.5)
        np.testing.assert_array_equal(got, want)


def test_open_sizes_are_pinned_also_those_of_outputs_and_of_other_inputs() -> None:
    nodes = [helper.make_node("Mul", ["x", "k"], ["y"])]
    inputs = [port("x", FLOAT, ["N", 3, "h", "w"]), port("k", FLOAT, ["N", 1, "h", "other"])]
    model = build(nodes, inputs, [port("y", FLOAT, ["N", 3, "h", "w"])])
    model.graph.value_info.append(port("y2", FLOAT, [9, 9]))
    described = manifest(extra=[{"name": "k", "value": 2.0}])
    result = canonical_model(model, described, {"other": W})
    check(result, described)
    assert [d.dim_value for d in result.graph.output[0].type.tensor_type.shape.dim] == [1, 3, H, W]
    (weight,) = result.graph.initializer
    assert list(weight.dims) == [1, 1, H, W]
    tensors = feed(described, picture())
    np.testing.assert_array_equal(run(result, tensors)["y"], 2 * tensors["x"])
    assert not result.graph.value_info


def test_an_input_of_unknown_shape_or_open_channels_is_the_picture() -> None:
    described = manifest()
    for shape in (None, ["N", "C", "h", "w"]):
        result = canonical_model(mirror(FLOAT, shape, 13), described)
        tensors = feed(described, picture())
        np.testing.assert_array_equal(run(result, tensors)["y"], tensors["x"])


def test_open_channels_are_as_many_as_the_first_convolution_takes() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=FLOAT), helper.make_node("Conv", ["c", "k"], ["y"])]
    kernel = numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "k")
    model = build(nodes, [port("x", HALF, [1, "C", "h", "w"])], [port("y", FLOAT, None)], [kernel])
    described = manifest()
    result = canonical_model(model, described)
    assert run(result, feed(described, picture()))["y"].shape == (1, 2, H - 2, W - 2)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int32", "int64", "uint8", "bool"])
def test_other_inputs_become_constants_of_their_element_type(dtype: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("x", "one", "many", "open", "unsaid")]
    shapes = {"one": [2, 2], "many": [1, 2], "open": ["a", "b"], "unsaid": [3]}
    inputs = [port("x", FLOAT, [1, 3, H, W]), *(port(name, kind, shape) for name, shape in shapes.items())]
    outputs = [port("x_out", FLOAT, None), *(port(f"{name}_out", kind, shape) for name, shape in shapes.items())]
    described = manifest(
        extra=[
            {"name": "one", "value": 1},
            {"name": "many", "value": [1, 0]},
            {"name": "open", "value": [1, 0, 1], "shape": [3, 1]},
        ]
    )
    result = canonical_model(build(nodes, inputs, outputs), described)
    check(result, described)
    got = run(result, feed(described, picture()))
    wide = "float32" if dtype.startswith("float") else dtype
    for name, want in {
        "one": [[1, 1], [1, 1]],
        "many": [[1, 0]],
        "open": [[1], [0], [1]],
        "unsaid": [0, 0, 0],
    }.items():
        np.testing.assert_array_equal(got[f"{name}_out"], np.array(want, wide))
        assert got[f"{name}_out"].dtype == wide


def test_a_second_picture_is_the_same_one_in_its_own_form() -> None:
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("x", "twin", "half", "grey")]
    inputs = [
        port("x", FLOAT, ["N", 3, H, W]),
        port("twin", FLOAT, ["N", 3, "h", "w"]),
        port("half", TensorProto.UINT8, ["N", H // 2, W // 2, 3]),
        port("grey", HALF, [1, 1, 2 * H, W]),
    ]
    outputs = [port(f"{i.name}_out", i.type.tensor_type.elem_type, None) for i in inputs]
    described = manifest(scale=[1.0] * 3, offset=[0.0] * 3)
    result = canonical_model(build(nodes, inputs, outputs), described)
    check(result, described)
    rgb = picture()
    got = run(result, feed(described, rgb))
    np.testing.assert_array_equal(got["twin_out"], got["x_out"])
    np.testing.assert_array_equal(got["half_out"][0], rgb[1::2, 1::2])
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(got["grey_out"][0, 0], np.repeat(luma, 2, axis=0), rtol=1e-3, atol=0.2)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_input_without_batch_axis_gets_the_picture_without_it(layout: str) -> None:
    described = manifest(layout=layout)
    shape = [3, H, W] if layout == "NCHW" else [H, W, 3]
    result = canonical_model(mirror(HALF, shape, 13), described)
    check(result, described)
    tensors = feed(described, picture())
    want = tensors["x"][0] if layout == "NCHW" else tensors["x"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(run(result, tensors)["y"], want, rtol=2e-3)


def test_a_fixed_batch_is_taken_as_one_also_by_the_outputs() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Custom", ["r"], ["y"], domain="own")]
    model = build(nodes, [port("x", FLOAT, [4, 3, H, W])], [port("r", FLOAT, [4, 3, H, W]), port("y", FLOAT, [4, 5])])
    model.opset_import.append(helper.make_opsetid("own", 1))
    result = canonical_model(model, manifest())
    shapes = [[d.dim_value for d in o.type.tensor_type.shape.dim] for o in result.graph.output]
    assert shapes == [[1, 3, H, W], []]
    assert not result.graph.output[1].type.tensor_type.HasField("shape")


def test_grey_follows_the_order_of_channels() -> None:
    described = manifest(color="BGR", scale=[1.0] * 3, offset=[0.0] * 3)
    result = canonical_model(mirror(FLOAT, [1, 1, H, W], 13), described)
    rgb = picture()
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(run(result, feed(described, rgb))["y"][0, 0], luma, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype", "changes", "says"),
    [
        ([1, 3, W, H], FLOAT, {}, r"NCHW \[1, 3, 16, 20\], the model has \[1, 3, 20, 16\]"),
        ([1, 4, H, W], FLOAT, {}, r"\[1, 4, 16, 20\]"),
        ([1, 3, H, W], TensorProto.STRING, {}, "string"),
        ([1, 3, H, W], FLOAT, {"input": "image"}, "feeds image, the model takes x"),
        ([1, 30], FLOAT, {"layout": "flat", "shape": [1, 20]}, r"flat \[1, 20\], the model has \[1, 30\]"),
    ],
)
def test_what_does_not_fit_is_refused(shape: list[int], dtype: int, changes: dict, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        canonical_model(mirror(dtype, shape, 13), manifest(**changes))


def test_an_opset_too_old_for_what_must_be_added_is_refused() -> None:
    assert canonical_model(mirror(FLOAT, [1, 3, H, W], 6), manifest()).opset_import[0].version == 6
    with pytest.raises(ModelError, match=r"opset 6.*opset 7 or later"):
        canonical_model(mirror(HALF, [1, 3, H, W], 6), manifest())


@settings(max_examples=40)
@given(
    opset=st.sampled_from(OPSETS),
    dtype=st.sampled_from(["float32", "float16", "float64", "uint8", "int32"]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
    open_axes=st.sets(st.integers(0, 3)),
    color=st.sampled_from(["RGB", "BGR"]),
    seed=st.integers(0, 99),
)
def test_any_convolution_gives_what_it_gave(
    opset: int, dtype: str, layout: str, open_axes: set[int], color: str, seed: int
) -> None:
    """A small network behind the model's own cast and transpose, on random weights."""
    rng = np.random.default_rng(seed)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    perm = [0, 1, 2, 3] if layout == "NCHW" else [0, 3, 1, 2]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=perm),
        helper.make_node("Cast", ["t"], ["c"], to=FLOAT),
        helper.make_node("Conv", ["c", "k"], ["f"]),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["y"]),
    ]
    kernel = numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype(np.float32), "k")
    sizes = [1, 3, H, W] if layout == "NCHW" else [1, H, W, 3]
    shape = [f"d{axis}" if axis in open_axes else size for axis, size in enumerate(sizes)]
    listed = [port("k", FLOAT, [4, 3, 3, 3])] if IR_OF_OPSET[opset] < 4 else []
    model = build(nodes, [port("x", kind, shape), *listed], [port("y", FLOAT, None)], [kernel], opset=opset)
    described = manifest(layout=layout, color=color)
    tensors = feed(described, picture(seed))
    native = tensors["x"] if layout == "NCHW" else tensors["x"].transpose(0, 2, 3, 1)
    native = np.floor(native + 0.5) if "int" in dtype else native
    want = run(model, {"x": np.ascontiguousarray(native.astype(dtype))})["y"]
    np.testing.assert_allclose(run(canonical_model(model, described), tensors)["y"], want, rtol=1e-6, atol=1e-6)
