"""Owns graph optimisation ahead of time: what a provider's runtime would do to a model at every start, done once.

A file so made is for one provider and one version of onnxruntime; its name says which, and `open_session` takes it
where both fit. The level is "extended": it folds constants and fuses operators, but, unlike "all", fixes no memory
layout of the very processor that optimised, so a plan may still move to another machine of its kind.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import ModelProto

from splitmesh.errors import ModelError
from splitmesh.inference.runtime_errors import ORT_ERRORS, reason
from splitmesh.inference.session import optimised_file, session_options

OPTIMISES = ("CPUExecutionProvider", "CUDAExecutionProvider")
"""TensorRT builds engines of its own from the plain graph and caches them itself."""
_WEIGHTS = "optimised.bin"
_EXTERNAL_FROM_BYTES = 1024


def optimised_name(path: Path, provider: str) -> str | None:
    """File name of the optimised form of the model at `path`; None for a provider that has none."""
    return optimised_file(path, provider).name if provider in OPTIMISES else None


def optimised_model(path: Path, provider: str, *, portable: bool = False) -> ModelProto:
    """The model at `path` as `provider` runs it after optimisation, all weights in memory.

    portable: only what ONNX itself can say (constants folded, batch normalisation in its convolution), no operator of
    the runtime's own.

    Raises ModelError if the runtime can't load the model, or can't write what it made of it (a graph that holds
    compiled parts, say): the plain file then has to do.
    """
    with tempfile.TemporaryDirectory(prefix="splitmesh-optimise-") as folder:
        out = Path(folder) / path.name
        options = session_options(threads=1)
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_BASIC if portable else levels.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(out)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(_EXTERNAL_FROM_BYTES)
        )
        try:
            ort.InferenceSession(str(path), options, providers=[provider])
            model: ModelProto = onnx.load(out)
        except ORT_ERRORS as exc:
            raise ModelError(f"{path} can't be optimised for {provider}: {reason(exc)}") from exc
    return model
