"""Owns the choice of an execution provider: what this machine can really run, in order of preference.

A provider that is compiled in may still fail to load (no driver, no library, wrong version), and onnxruntime then
falls back without an error. So each one is asked to run a one-node model before it counts as usable.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from splitmesh.errors import InferenceError
from splitmesh.inference.runtime_errors import ORT_ERRORS

_log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
PREFERENCE = ("TensorrtExecutionProvider", "CUDAExecutionProvider", CPU)
_SHORT = {"tensorrt": PREFERENCE[0], "cuda": PREFERENCE[1], "cpu": CPU}


@dataclass(frozen=True, slots=True)
class ProviderProbe:
    """What asking one provider to run a model gave."""

    name: str
    usable: bool
    detail: str
    """Why it is not usable, or "ran a probe model"."""


@lru_cache(maxsize=1)
def available() -> tuple[ProviderProbe, ...]:
    """Probe every provider we know, best first. Done once per process: a CUDA probe takes seconds."""
    compiled = set(ort.get_available_providers())
    if PREFERENCE[1] in compiled:
        # CUDA and cuDNN wheels lie where the loader does not look. It prints what it misses; the probe reports it.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    return tuple(probe(name) if name in compiled else _not_built(name) for name in PREFERENCE)


def _not_built(name: str) -> ProviderProbe:
    return ProviderProbe(name, False, "this build of onnxruntime does not contain it")


def probe(name: str) -> ProviderProbe:
    """Run a one-node model on provider `name` and check that it was really this one that ran it."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(_probe_model(), options, providers=[name])
        if session.get_providers()[0] != name:
            return ProviderProbe(name, False, "it is built in but could not be loaded (driver or libraries missing)")
        total = session.run(None, {"x": np.ones(4, np.float32)})[0]
    except ORT_ERRORS as exc:
        return ProviderProbe(name, False, f"{type(exc).__name__}: {exc}")
    if not np.array_equal(total, np.full(4, 2.0, np.float32)):
        return ProviderProbe(name, False, "it computed 1 + 1 wrongly")
    return ProviderProbe(name, True, "ran a probe model")


def _probe_model() -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def select(request: Sequence[str] = ("auto",), probes: Sequence[ProviderProbe] | None = None) -> tuple[str, ...]:
    """Full provider names to try, best first; CPU is always the last.

    `request`: "auto", or "tensorrt", "cuda", "cpu" and onnxruntime's own names in the order wanted. A provider that
    was asked for by name and is not usable is left out with a logged warning. `probes` defaults to `available()`.
    Raises InferenceError for a name that nobody knows.
    """
    found = {p.name: p for p in (available() if probes is None else probes)}
    chosen: list[str] = []
    for asked in request:
        automatic = asked.lower() == "auto"
        for name in PREFERENCE if automatic else (_full_name(asked),):
            result = found.get(name) or _not_built(name)
            if result.usable:
                chosen.append(name)
            elif name != CPU:
                level = logging.DEBUG if automatic else logging.WARNING
                _log.log(level, "%s is not usable here: %s", name, result.detail)
    return tuple(dict.fromkeys([*[n for n in chosen if n != CPU], CPU]))


def _full_name(asked: str) -> str:
    name = _SHORT.get(asked.lower(), asked)
    if name not in PREFERENCE:
        raise InferenceError(f"unknown provider {asked!r}", advice=f"use auto, {', '.join(_SHORT)}")
    return name


def short_name(provider: str) -> str:
    """ "cpu" for "CPUExecutionProvider", and so on; an unknown name is left as it is."""
    return next((short for short, full in _SHORT.items() if full == provider), provider)


def describe_device(provider: str = CPU) -> str:
    """`<provider>/<machine>/<processor>/<cores>`: profiles hold on equal descriptions only."""
    return f"{short_name(provider)}/{platform.machine()}/{_processor()}/{os.cpu_count() or 1}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {key.strip(): value.strip() for key, value in fields.items()}
    return facts.get("model name") or facts.get("Model") or facts.get("CPU part") or "unknown"
