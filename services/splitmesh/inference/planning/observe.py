"""Owns seeing by running what can't be inferred of a model's tensors: element types and shapes. Keeps no values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper

from splitmesh.errors import InferenceError, ModelError
from splitmesh.inference.providers import CPU
from splitmesh.inference.runtime_errors import ORT_ERRORS, reason
from splitmesh.plan.graph.load import read_skeleton
from splitmesh.plan.graph.names import all_names, fresh
from splitmesh.plan.graph.steady import steady_shapes

Array = npt.NDArray[Any]

LEAST_INPUTS = 2
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_NAMES_OF_TYPES = {"float": TensorProto.FLOAT, "double": TensorProto.DOUBLE}


def observe(
    path: Path, inputs: Sequence[Mapping[str, Array]], names: Collection[str], *, threads: int = 1
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Tensor name → element type (onnx.TensorProto.DataType) and shape, of those of `names` that have but one.

    inputs: at least two different ones, each every input of the model by name. Left out are tensors whose shape was
    not the same each time or could be another for another picture (`steady_shapes`), what is no tensor, and what no
    node of the top-level graph makes. Only shapes leave the runtime, so a run takes as much memory as any other.
    Raises ModelError if the file can't be loaded, InferenceError if it can't be run on `inputs`.
    """
    if len(inputs) < LEAST_INPUTS:
        raise InferenceError(f"shapes are observed on {LEAST_INPUTS} inputs at least, not {len(inputs)}")
    model = read_skeleton(path)
    made = {name for node in model.graph.node for name in node.output}
    wanted = sorted(made & steady_shapes(model) & set(names))
    if not wanted:
        return {}
    types = _types(model, path, wanted, threads)
    runs = _shapes(model, path, list(types), inputs, threads)
    return {
        name: (types[name], shape)
        for name, shape in runs[0].items()
        if all(other[name] == shape for other in runs[1:]) and 0 not in shape
    }


def _types(model: ModelProto, path: Path, names: Sequence[str], threads: int) -> dict[str, int]:
    """Element type of each that is a tensor, as the runtime finds it when it loads the model."""
    with _more_outputs(model, names):
        session = _open(model, path, threads)
    wanted = set(names)
    types = {port.name: _element_type(port.type) for port in session.get_outputs() if port.name in wanted}
    return {name: kind for name, kind in types.items() if kind}


def _shapes(
    model: ModelProto, path: Path, names: Sequence[str], inputs: Sequence[Mapping[str, Array]], threads: int
) -> list[dict[str, tuple[int, ...]]]:
    """For each input the shape of each tensor. Adds nodes to `model`."""
    taken = all_names(model.graph)
    sizes = {name: fresh(f"{name}_observed_shape", taken) for name in names}
    model.graph.node.extend(helper.make_node("Shape", [name], [size]) for name, size in sizes.items())
    with _more_outputs(model, list(sizes.values())):
        session = _open(model, path, threads)
    runs = []
    for given in inputs:
        try:
            values = session.run(list(sizes.values()), dict(given))
        except ORT_ERRORS as exc:
            raise InferenceError(f"{path} can't be run to observe its tensors: {reason(exc)}") from exc
        runs.append({name: tuple(int(n) for n in value) for name, value in zip(names, values, strict=True)})
    return runs


@contextmanager
def _more_outputs(model: ModelProto, names: Sequence[str]) -> Iterator[None]:
    """`model` with `names` as further outputs: as it is, since a copy would take its weights twice."""
    before = len(model.graph.output)
    known = {o.name for o in model.graph.output}
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    try:
        yield
    finally:
        del model.graph.output[before:]


def _open(model: ModelProto, path: Path, threads: int) -> Any:
    """A session on the nodes as they are, none of them fused.

    In order of priority the Shape of a tensor is taken as soon as the tensor is there, which then can be freed.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(path.parent.resolve()))
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    except ORT_ERRORS as exc:
        raise ModelError(f"model {path} can't be loaded to observe its tensors: {reason(exc)}") from exc


def _element_type(text: str) -> int:
    """Of onnxruntime's "tensor(float)" and its like; 0 for what is no tensor of numbers."""
    kind = text.removeprefix("tensor(").removesuffix(")")
    if kind in _NAMES_OF_TYPES:
        return _NAMES_OF_TYPES[kind]
    try:
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    except (TypeError, ValueError):
        return TensorProto.UNDEFINED
