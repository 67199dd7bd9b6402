"""Optimisation ahead of time: fewer nodes, the same numbers, and a file that only the right runtime takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from plan_graphs import SIZE, residual_classifier

from splitmesh.errors import ModelError
from splitmesh.inference.planning.optimise import optimised_model, optimised_name
from splitmesh.inference.providers import CPU
from splitmesh.inference.session import open_session


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(residual_classifier(), path)
    return path


def picture() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(3).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)}


def test_operators_are_fused_and_the_numbers_stay(plain: Path) -> None:
    wanted = open_session(plain).run(picture())["logits"]
    optimised = optimised_model(plain, CPU)
    assert len(optimised.graph.node) < len(onnx.load(plain).graph.node)
    assert any(node.domain == "com.microsoft" for node in optimised.graph.node)
    assert not any(onnx.external_data_helper.uses_external_data(t) for t in optimised.graph.initializer)
    other = plain.with_name("optimised.onnx")
    onnx.save(optimised, other)
    np.testing.assert_allclose(open_session(other).run(picture())["logits"], wanted, rtol=1e-5, atol=1e-6)


def test_a_session_takes_the_file_of_its_provider_and_version(plain: Path) -> None:
    name = optimised_name(plain, CPU)
    assert name == f"net.cpu-{ort.__version__}.onnx"
    constant = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0)],
            "told-apart",
            [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, [])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(constant, plain.with_name("net.cpu-0.0.1.onnx"))
    onnx.save(constant, plain.with_name(f"net.cuda-{ort.__version__}.onnx"))
    assert list(open_session(plain).outputs) == ["logits"]
    onnx.save(constant, plain.with_name(name))
    assert list(open_session(plain).outputs) == ["sum"]


def test_tensorrt_makes_its_own() -> None:
    assert optimised_name(Path("net.onnx"), "TensorrtExecutionProvider") is None


def test_a_file_that_can_not_be_optimised_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"broken\.onnx can't be optimised"):
        optimised_model(broken, CPU)
