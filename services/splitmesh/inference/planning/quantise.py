"""Owns static quantisation: a model, or the head of one, in 8-bit integers (QDQ), its ranges taken from real frames.

Weights are signed and per channel where the opset has that (13), activations unsigned, ranges are the extremes seen
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018).
Only what gains from it is quantised: convolutions, matrix products and the cheap steps between them. What follows the
last of them (decoding, softmax) stays float. Whether the result is good enough, or faster here at all, is for others
to measure.
"""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import ModelProto, TensorProto

from splitmesh.errors import ModelError
from splitmesh.inference.planning.optimise import optimised_model
from splitmesh.inference.providers import CPU
from splitmesh.inference.session import Array

QUANTISED_OPS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Relu", "Clip", "LeakyRelu"),
    *("MaxPool", "AveragePool", "GlobalAveragePool"),
)
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ALREADY = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
_PER_CHANNEL_OPSET = 13


def why_not(model: ModelProto) -> str:
    """Why `model` is not worth quantising; "" if it may be tried."""
    ops = {node.op_type for node in model.graph.node}
    if ops & _ALREADY:
        return "it is quantised already"
    if not ops & _PRODUCTS:
        return "it has neither convolutions nor matrix products"
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        return "its weights are float16"
    return ""


def quantised_model(path: Path, cases: Iterable[dict[str, Array]]) -> ModelProto:
    """The float32 model at `path` in 8-bit integers, inputs and outputs as they were, all weights in memory.

    cases: model inputs by name, from real frames, one asked for at a time; a dozen is enough. Raises ModelError with
    the reason if the model can't be quantised.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

    reason = why_not(onnx.load(path, load_external_data=False))
    if reason:
        raise ModelError(f"{path} can't be quantised: {reason}")
    simple = optimised_model(path, CPU, portable=True)
    opset = max((entry.version for entry in simple.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    with tempfile.TemporaryDirectory(prefix="splitmesh-quantise-") as folder, _without_advice():
        given, made = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        try:
            onnx.save(simple, given, save_as_external_data=True, location="float.bin")
            del simple
            quantiser = QDQQuantizer(
                load_model_with_shape_infer(given),
                per_channel=opset >= _PER_CHANNEL_OPSET,
                reduce_range=False,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=_ranges(given, cases),
                nodes_to_quantize=[],
                nodes_to_exclude=[],
                op_types_to_quantize=list(QUANTISED_OPS),
                extra_options={},
            )
            quantiser.quantize_model()
            quantiser.model.save_model_to_file(made)
            del quantiser
            model: ModelProto = onnx.load(made)
        except Exception as exc:
            raise ModelError(f"{path} can't be quantised: {type(exc).__name__}: {exc}") from exc
        finally:
            gc.collect()  # the quantiser's objects refer to each other in circles, and hold copies of the model
    return model


def _ranges(model: Path, cases: Iterable[dict[str, Array]]) -> Any:
    """Extremes of each tensor that is to be quantised, as the quantiser wants them.

    Each tensor goes as soon as its extremes are known: in the runtime's usual order of steps all of them are held to
    the end, gigabytes for a large picture.
    """
    from onnxruntime.quantization.calibrate import MinMaxCalibrater

    meter = MinMaxCalibrater(model, list(QUANTISED_OPS), augmented_model_path=str(model.with_name("metered.onnx")))
    meter.augment_graph()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.log_severity_level = 3
    meter.infer_session = onnxruntime.InferenceSession(
        meter.augmented_model_path, sess_options=options, providers=["CPUExecutionProvider"]
    )
    meter.collect_data(_Cases(cases))
    return meter.compute_data()


class _Cases:
    """What the quantiser calls a calibration data reader."""

    def __init__(self, cases: Iterable[dict[str, Array]]) -> None:
        self._rest = iter(cases)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._rest, None)


@contextmanager
def _without_advice() -> Iterator[None]:
    """The quantiser gives hints to its own developer through the root logger."""
    root = logging.getLogger()

    def silent(record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING

    root.addFilter(silent)
    try:
        yield
    finally:
        root.removeFilter(silent)
