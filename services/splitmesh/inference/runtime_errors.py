"""Owns what onnxruntime raises, and saying it in words that help. Decides not what to do about it."""

from __future__ import annotations

import re

from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

ORT_ERRORS: tuple[type[Exception], ...] = (
    *(kind for kind in vars(ort_state).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,
)
"""Everything onnxruntime raises."""

_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "  # its code
    r"|Load model from .*? failed:"
    r"|Exception during initialization: "
    r"|(?:Fatal e|E)rror: "
    r"|\S+\.(?:cc|cpp|h|hpp|cu):\d+ "  # where it is raised: file and line,
    r"(?:(?:\w+ )*[\w:~]+(?:<[^(]*>)?\(.*?\) (?:const )?(?:\[with [^\]]*\] )?|\w+ )"  # then the function
)
_MOST = 400


def reason(exc: Exception) -> str:
    """What onnxruntime says is wrong, on one line, without its codes and the places in its source; "…" at the end if
    it says more than fits a sentence."""
    said = re.sub(r"[\s\x00-\x1f]+", " ", _NOISE.sub("", str(exc))).strip().rstrip(".")
    return said if len(said) <= _MOST else f"{said[:_MOST].rstrip()} …"
