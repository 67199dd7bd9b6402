"""TensorFlow.js conversion: small graphs against a plain NHWC evaluation, folding, and what is refused."""

import json
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from splitmesh.errors import ModelError
from splitmesh.models.convert_graph import serialize
from splitmesh.models.convert_tfjs import convert, read_graph_model

RNG = np.random.default_rng(11)
FEED = ("x", "image", (1, 9, 7, 3))


class Graph:
    """Builds model.json and its one weight file."""

    def __init__(self) -> None:
        self.nodes: list[dict] = [{"name": "x", "op": "Placeholder", "input": [], "attr": {}}]
        self.specs: list[dict] = []
        self.payload = b""

    def const(self, name: str, values: np.ndarray) -> str:
        self.nodes.append({"name": name, "op": "Const", "input": [], "attr": {}})
        dtype = {"f": "float32", "i": "int32"}[values.dtype.kind]
        self.specs.append({"name": name, "shape": list(values.shape), "dtype": dtype})
        self.payload += values.astype({"float32": "<f4", "int32": "<i4"}[dtype]).tobytes()
        return name

    def op(self, name: str, op: str, *inputs: str, **attr: dict) -> str:
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attr})
        return name

    def conv(
        self,
        name: str,
        source: str,
        kernel: np.ndarray,
        *,
        stride: int = 1,
        padding: str = "SAME",
        depthwise: bool = False,
        dilation: int = 1,
    ) -> str:
        return self.op(
            name,
            "DepthwiseConv2dNative" if depthwise else "Conv2D",
            source,
            self.const(f"{name}/kernel", kernel),
            strides={"list": {"i": ["1", str(stride), str(stride), "1"]}},
            dilations={"list": {"i": ["1", str(dilation), str(dilation), "1"]}},
            padding={"s": list(padding.encode())},
            data_format={"s": list(b"NHWC")},
        )

    def document(self) -> bytes:
        manifest = [{"paths": ["w1", "w2"], "weights": self.specs}]
        return json.dumps({"modelTopology": {"node": self.nodes}, "weightsManifest": manifest}).encode()

    def shard(self, name: str) -> bytes:
        half = len(self.payload) // 2
        return {"w1": self.payload[:half], "w2": self.payload[half:]}[name]

    def onnx(self, **outputs: str) -> onnx.ModelProto:
        graph = read_graph_model(self.document(), self.shard)
        return convert(graph, name="t", feed=FEED, outputs={v: k for k, v in outputs.items()}, strip=("scope/",))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def picture() -> np.ndarray:
    return normal(1, 9, 7, 3)


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return ReferenceEvaluator(model).run(None, {"image": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})


def conv_nhwc(x, kernel, *, stride=1, padding="SAME", depthwise=False, dilation=1):
    """TensorFlow's convolution, by its definition, in float64."""
    n, h, w, _ = x.shape
    kh, kw = kernel.shape[:2]
    rh, rw = (kh - 1) * dilation + 1, (kw - 1) * dilation + 1
    if padding == "SAME":
        oh, ow = -(-h // stride), -(-w // stride)
        ph, pw = max((oh - 1) * stride + rh - h, 0), max((ow - 1) * stride + rw - w, 0)
        x = np.pad(x, ((0, 0), (ph // 2, ph - ph // 2), (pw // 2, pw - pw // 2), (0, 0)))
    else:
        oh, ow = (h - rh) // stride + 1, (w - rw) // stride + 1
    kernel = kernel.astype(float)
    out = np.zeros((n, oh, ow, kernel.shape[2] * kernel.shape[3] if depthwise else kernel.shape[3]))
    for i in range(oh):
        for j in range(ow):
            patch = x[:, i * stride : i * stride + rh : dilation, j * stride : j * stride + rw : dilation]
            if depthwise:
                out[:, i, j] = np.einsum("nhwc,hwcm->ncm", patch, kernel).reshape(n, -1)
            else:
                out[:, i, j] = np.einsum("nhwc,hwco->no", patch, kernel)
    return out


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(
    "how",
    [
        {"stride": 1, "padding": "SAME"},
        {"stride": 2, "padding": "SAME"},
        {"stride": 2, "padding": "VALID"},
        {"stride": 1, "padding": "SAME", "dilation": 2},
    ],
)
def test_convolutions_and_their_paddings(depthwise: bool, how: dict) -> None:
    kernel, x = normal(3, 2, 3, 2), picture()
    g = Graph()
    g.conv("c", "x", kernel, depthwise=depthwise, **how)
    g.op("y", "Identity", "c")
    (found,) = run(g.onnx(out="y"), x)
    np.testing.assert_allclose(found, conv_nhwc(x, kernel, depthwise=depthwise, **how), rtol=1e-4, atol=1e-4)


def test_constants_after_a_convolution_are_folded_into_it() -> None:
    kernel, x = normal(3, 3, 3, 4), picture()
    scale, shift, bias = normal(4), normal(4), normal(4)
    gamma, beta, mean, var = normal(4), normal(4), normal(4), np.abs(normal(4)) + 0.5
    g = Graph()
    g.conv("scope/c", "x", kernel)
    g.op("scope/m", "Mul", "scope/c", g.const("scale", scale))
    g.op("scope/a", "Add", g.const("shift", shift), "scope/m")
    stats = [g.const(f"bn/{n}", v) for n, v in zip("gbmv", (gamma, beta, mean, var), strict=True)]
    g.op("n", "FusedBatchNormV3", "scope/a", *stats, epsilon={"f": 0.001}, is_training={"b": False})
    g.op("b", "BiasAdd", "n", g.const("bias", bias))
    g.op("r", "Relu6", "b")
    model = g.onnx(out="r")
    assert Counter(n.op_type for n in model.graph.node) == {"Conv": 1, "Clip": 1, "Transpose": 1, "Identity": 1}
    folded = ((conv_nhwc(x, kernel) * scale + shift) - mean) / np.sqrt(var + 0.001) * gamma + beta + bias
    np.testing.assert_allclose(run(model, x)[0], np.clip(folded, 0, 6), rtol=1e-4, atol=1e-4)


def test_a_bias_after_a_shortcut_goes_into_the_convolution_before_it() -> None:
    first, second, bias, x = normal(1, 1, 3, 3), normal(3, 3, 3, 3), normal(3), picture()
    g = Graph()
    g.conv("c1", "x", first)
    g.op("r", "Relu", "c1")
    g.conv("c2", "r", second)
    g.op("s", "AddN", "c2", "r")
    g.op("y", "Add", "s", g.const("bias", bias))
    model = g.onnx(out="y")
    assert sorted(n.op_type for n in model.graph.node if n.op_type != "Identity") == [
        "Add",
        "Conv",
        "Conv",
        "Relu",
        "Transpose",
    ]
    entry = np.maximum(conv_nhwc(x, first), 0)
    np.testing.assert_allclose(run(model, x)[0], conv_nhwc(entry, second) + entry + bias, rtol=1e-4, atol=1e-4)


def test_a_convolution_that_others_read_is_not_changed() -> None:
    kernel, scale, x = normal(1, 1, 3, 3), normal(3), picture()
    g = Graph()
    g.conv("c", "x", kernel)
    g.op("m", "Mul", "c", g.const("scale", scale))
    g.op("y", "AddV2", "m", "c")
    plain = conv_nhwc(x, kernel)
    np.testing.assert_allclose(run(g.onnx(out="y"), x)[0], plain * scale + plain, rtol=1e-4, atol=1e-4)


def test_heads_reshape_concat_and_squeeze_in_tensorflow_order() -> None:
    a, b, x = normal(1, 1, 3, 6), normal(3, 3, 3, 4), picture()
    g = Graph()
    dims = [g.const(n, np.array(v, np.int32)) for n, v in (("-1", -1), ("1", 1), ("2", 2))]
    zero, one = g.const("[0]", np.array([0], np.int32)), g.const("[1]", np.array([1], np.int32))
    heads = []
    for name, kernel, stride in (("a", a, 1), ("b", b, 2)):
        g.conv(name, "x", kernel, stride=stride)
        g.op(f"{name}/shape", "Shape", name)
        g.op(f"{name}/n", "StridedSlice", f"{name}/shape", zero, one, one, shrink_axis_mask={"i": "1"})
        g.op(f"{name}/to", "Pack", f"{name}/n", dims[0], dims[1], dims[2])
        heads.append(g.op(f"{name}/flat", "Reshape", name, f"{name}/to"))
    g.op("all", "ConcatV2", *heads, dims[1])
    g.op("boxes", "Squeeze", "all", squeeze_dims={"list": {"i": ["2"]}})
    g.op("scores", "Sigmoid", "boxes")
    model = g.onnx(raw="boxes", probability="scores")
    expected = np.concatenate(
        [conv_nhwc(x, a).reshape(1, -1, 2), conv_nhwc(x, b, stride=2).reshape(1, -1, 2)], axis=1
    )
    raw, probability = run(model, x)
    np.testing.assert_allclose(raw, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert [o.name for o in model.graph.output] == ["raw", "probability"]
    assert tuple(d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim) == expected.shape


def test_what_no_output_needs_is_dropped_and_bytes_are_stable() -> None:
    g = Graph()
    g.op("before", "ResizeBilinear", "x")
    g.conv("c", "before", normal(1, 1, 3, 2))
    g.op("y", "Relu", "c")
    g.op("after", "NonMaxSuppressionV5", "y")
    graph = read_graph_model(g.document(), g.shard)
    feed = ("before:0", "image", (1, 9, 7, 3))
    first = serialize(convert(graph, name="t", feed=feed, outputs={"y:0": "out"}))
    assert first == serialize(
        convert(read_graph_model(g.document(), g.shard), name="t", feed=feed, outputs={"y": "out"})
    )


def test_quantised_weights_are_scaled_back() -> None:
    g = Graph()
    g.conv("c", "x", normal(1, 1, 3, 2))
    g.op("y", "Relu", "c")
    packed = np.array([0, 1, 2, 100, 200, 255], np.uint8)
    g.payload = packed.tobytes()
    g.specs[0]["quantization"] = {"dtype": "uint8", "scale": 0.01, "min": -1.0}
    x = picture()
    kernel = (packed * 0.01 - 1).reshape(1, 1, 3, 2)
    np.testing.assert_allclose(run(g.onnx(out="y"), x)[0], np.maximum(conv_nhwc(x, kernel), 0), rtol=1e-4, atol=1e-5)


def conv_graph() -> Graph:
    g = Graph()
    g.conv("c", "x", normal(1, 1, 3, 2))
    return g


def test_an_unknown_operator_is_named_with_its_node() -> None:
    g = conv_graph()
    g.op("top", "TopKV2", "c")
    with pytest.raises(ModelError, match="'top' is a TopKV2") as caught:
        g.onnx(out="top")
    assert "Conv2D" in caught.value.advice


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda g: g.op("y", "Mul", "c", "x"), "'y' \\(Mul\\).*must be a constant"),
        (lambda g: g.op("y", "Relu", "missing"), "no node 'missing'"),
        (lambda g: g.op("y", "Relu", "c:1"), "'c:1'"),
        (lambda g: g.op("y", "Reshape", "c", g.const("s", np.array([5, 5], np.int32))), "can't be reshaped"),
        (lambda g: g.op("y", "Squeeze", "c", squeeze_dims={"list": {"i": ["1"]}}), "not all 1"),
        (lambda g: g.op("y", "Identity", g.const("k", np.zeros(3, np.float32))), "does not depend on the input"),
        (lambda g: g.conv("y", "c", normal(1, 1, 5, 2)), "does not fit an input of 2 channels"),
        (lambda g: g.conv("y", "c", normal(1, 1, 2, 2), padding="EXPLICIT"), "'EXPLICIT'"),
        (lambda g: g.nodes.append({"name": "y", "op": "Const"}), "'y' has no weights"),
    ],
)
def test_what_can_not_be_converted_is_named(change, says: str) -> None:
    g = conv_graph()
    change(g)
    with pytest.raises(ModelError, match=says):
        g.onnx(out="y")


def test_damaged_packages_are_refused() -> None:
    g = conv_graph()
    with pytest.raises(ModelError, match=r"model\.json"):
        read_graph_model(b"{}", g.shard)
    with pytest.raises(ModelError, match="cut short"):
        read_graph_model(g.document(), lambda name: g.shard(name)[:-2])
    with pytest.raises(ModelError, match="declares"):
        read_graph_model(g.document(), lambda name: g.shard(name) + b"more")
    g.specs[0]["dtype"] = "complex64"
    with pytest.raises(ModelError, match="complex64"):
        read_graph_model(g.document(), g.shard)
