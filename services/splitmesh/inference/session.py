"""Owns running a model: one onnxruntime session, explicit threads. Refuses to hand out NaN or Inf."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from splitmesh.errors import InferenceError, ModelError
from splitmesh.inference.providers import CPU, select, short_name
from splitmesh.inference.runtime_errors import ORT_ERRORS, reason

_log = logging.getLogger(__name__)

Array = npt.NDArray[Any]
Port = tuple[tuple[int | None, ...], np.dtype[Any]]
"""Shape (None: any size) and dtype of an input or output."""

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


class Session:
    """One loaded model. `run` may be called from several threads at once; it blocks and releases the GIL."""

    def __init__(self, session: Any, path: Path, threads: int, called: str) -> None:
        self._session = session
        self.path = path
        self._called = called
        self.threads = threads
        self.provider: str = session.get_providers()[0]
        self.inputs: Mapping[str, Port] = {p.name: _port(p, called) for p in session.get_inputs()}
        self.outputs: Mapping[str, Port] = {p.name: _port(p, called) for p in session.get_outputs()}
        self._names = list(self.outputs)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """All outputs by name. `inputs`: every input by name, C-contiguous, of the documented shape and dtype.

        Raises InferenceError (naming file and tensor) for inputs that do not fit, a failure of the runtime, and NaN
        or Inf in an output.
        """
        self._check_inputs(inputs)
        try:
            values = self._session.run(self._names, inputs)
        except ORT_ERRORS as exc:
            raise InferenceError(f"{self._called} failed on {self.provider}: {reason(exc)}") from exc
        for name, value in zip(self._names, values, strict=True):
            if not _finite(value):
                raise InferenceError(
                    f"output {name} of {self._called} holds NaN or Inf",
                    advice="the input or the weights are out of range; check the manifest's scale and offset",
                )
        return dict(zip(self._names, values, strict=True))

    def _check_inputs(self, inputs: Mapping[str, Array]) -> None:
        if inputs.keys() != self.inputs.keys():
            raise InferenceError(
                f"{self._called} takes the inputs {', '.join(self.inputs)}, not {', '.join(inputs) or 'none'}"
            )
        for name, value in inputs.items():
            shape, dtype = self.inputs[name]
            fits = len(shape) == value.ndim and all(
                want is None or want == have for want, have in zip(shape, value.shape, strict=True)
            )
            if not fits or value.dtype != dtype:
                wanted = "x".join("?" if d is None else str(d) for d in shape)
                given = "x".join(str(d) for d in value.shape)
                raise InferenceError(f"input {name} of {self._called} is {wanted} {dtype}, not {given} {value.dtype}")

    def __repr__(self) -> str:
        return f"<Session {self.path.name} on {self.provider} threads={self.threads}>"


def open_session(
    path: str | Path,
    *,
    threads: int = 1,
    providers: Sequence[str] = ("auto",),
    called: str | Path = "",
    lean: bool = False,
) -> Session:
    """Load an ONNX file: `threads` threads inside an operator, one operator at a time, no spinning.

    Where its `optimised_file` lies beside it, that one is loaded: it computes the same and opens faster. A provider
    that fails on this model is given up for the next one, with a logged reason; CPU is the last.
    called: what messages call the file, if not by its path: of a form that was made of it, say. lean: less memory for
    what lies between the nodes (half of it, for larger batches), at one or two per cent of the time.
    Raises ModelError if the file is missing or the runtime can't run it.
    """
    file, name_of = Path(path), str(called or path)
    if threads < 1:
        raise InferenceError(f"a session needs at least one thread, not {threads}")
    if not file.is_file():
        raise ModelError(f"model {name_of} does not exist", advice="check the path, or build the plan again")
    names = select(providers)
    options = session_options(threads)
    options.enable_mem_pattern = not lean
    for index, name in enumerate(names):
        try:
            session = ort.InferenceSession(_file_for(name, file), options, providers=list(names[index:]))
        except ORT_ERRORS as exc:
            if name == CPU:
                raise ModelError(
                    f"model {name_of} can't be loaded: {reason(exc)}",
                    advice=f"export or download it again, in a form that onnxruntime {ort.__version__} runs",
                ) from exc
            _log.warning("%s can't run %s, trying %s: %s", name, name_of, names[index + 1], reason(exc))
            continue
        active = session.get_providers()[0]
        if active != name:
            _log.warning("%s did not load for %s, running on %s", name, name_of, active)
        return Session(session, file, threads, name_of)
    raise InferenceError(f"no provider can run {name_of}")


def optimised_file(path: Path, provider: str) -> Path:
    """Where the form of the model at `path` lies that this version of onnxruntime made for `provider`."""
    return path.with_name(f"{path.stem}.{short_name(provider)}-{ort.__version__}{path.suffix}")


def _file_for(provider: str, path: Path) -> str:
    optimised = optimised_file(path, provider)
    return str(optimised if optimised.is_file() else path)


def session_options(threads: int) -> ort.SessionOptions:
    """The settings that every session here has."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _port(port: Any, called: str) -> Port:
    dtype = _DTYPES.get(port.type)
    if dtype is None:
        raise ModelError(
            f"model {called} has {port.name} of type {port.type}, which splitmesh can't carry",
            advice="export it with numbers or booleans only: no texts, sequences or maps",
        )
    return tuple(d if isinstance(d, int) else None for d in port.shape), np.dtype(dtype)


def _finite(value: Array) -> bool:
    """True if no element is NaN or Inf. One pass that sums; only a sum that overflowed is looked at again."""
    if not np.issubdtype(value.dtype, np.floating):
        return True
    with np.errstate(all="ignore"):
        if np.isfinite(np.add.reduce(value, axis=None)):
            return True
    return bool(np.isfinite(value).all())
