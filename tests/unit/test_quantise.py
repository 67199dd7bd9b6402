"""Static quantisation with real frames: integers inside, the same ports outside, close to the float model."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from plan_graphs import SIZE, residual_classifier

from splitmesh.errors import ModelError
from splitmesh.inference.planning.quantise import quantised_model, why_not
from splitmesh.inference.session import open_session


def cases(count: int = 8) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    return [{"image": rng.random((1, 3, SIZE, SIZE), np.float32)} for _ in range(count)]


def saved(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path)
    return path


def test_a_quantised_model_has_integers_inside_and_is_close(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = saved(tmp_path / "net.onnx", residual_classifier())
    with caplog.at_level(logging.INFO):
        model = quantised_model(plain, cases())
    assert not caplog.records, "the quantiser's advice to its developer is no news to the user"
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("QuantizeLinear") > 5
    assert [t.data_type for t in model.graph.initializer].count(TensorProto.INT8) >= 10
    before, after = open_session(plain), open_session(saved(tmp_path / "int8.onnx", model))
    assert before.inputs == after.inputs and before.outputs == after.outputs
    for case in cases(3):
        wanted, found = before.run(case)["logits"], after.run(case)["logits"]
        assert 0 < np.abs(wanted - found).max() < 0.15 * np.abs(wanted).max()


def test_ranges_come_from_the_frames(tmp_path: Path) -> None:
    """Calibrated on dark frames, bright ones saturate."""
    plain = saved(tmp_path / "net.onnx", residual_classifier())
    bright = [{"image": case["image"] * np.float32(20)} for case in cases()]
    dark = [{"image": case["image"] * np.float32(0.05)} for case in cases()]
    wanted = open_session(plain).run(bright[0])["logits"]
    error = {}
    for name, frames in (("bright", bright), ("dark", dark)):
        session = open_session(saved(tmp_path / f"{name}.onnx", quantised_model(plain, frames)))
        error[name] = np.abs(session.run(bright[0])["logits"] - wanted).max()
    assert error["dark"] > 5 * error["bright"]


@pytest.mark.parametrize("op", ["QuantizeLinear", "ConvInteger"])
def test_a_quantised_model_is_left_alone(op: str) -> None:
    model = residual_classifier()
    model.graph.node.append(helper.make_node(op, ["logits"], ["unused"]))
    assert why_not(model) == "it is quantised already"


def test_half_precision_is_left_alone(tmp_path: Path) -> None:
    model = residual_classifier()
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float16), "half"))
    with pytest.raises(ModelError, match=r"net\.onnx can't be quantised: its weights are float16"):
        quantised_model(saved(tmp_path / "net.onnx", model), cases())


def test_a_model_of_cheap_steps_only_gains_nothing() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["out"])],
        "cheap",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 4, 4])],
    )
    assert "neither" in why_not(helper.make_model(graph))


def test_frames_that_do_not_fit_are_a_clear_error(tmp_path: Path) -> None:
    plain = saved(tmp_path / "net.onnx", residual_classifier())
    with pytest.raises(ModelError, match=r"net\.onnx can't be quantised"):
        quantised_model(plain, [{"image": np.zeros((1, 3, 5, 5), np.float32)}])
