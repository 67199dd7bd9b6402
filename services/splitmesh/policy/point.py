"""Owns the operating point: one way to treat a frame, with its measured table. Knows nothing of any model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Place(StrEnum):
    """Where a frame's inference runs."""

    TRACK = "track"
    LOCAL = "local"
    SPLIT = "split"
    FRAME = "frame"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Place × cut × codec × level, with what calibration and profiling measured for it.

    Times are medians in milliseconds on the profiled device at its full speed; the estimators learn how much
    slower (or faster) this very device, worker and moment are.
    """

    name: str
    """Unique and stable: "track", "local", "local/<variant>", "split/<cut>/<codec>-<level>" (a variant of the head:
    "split/<cut>+<variant>/…"), "frame/<codec>-<level>"."""
    place: Place
    fidelity: float
    """Agreement with the unsplit fp32 model on calibration frames, [0, 1]."""
    cut: str = ""
    codec: str = ""
    level: int = 0
    edge_ms: float = 0.0
    """Model time on the edge: the head for SPLIT, the whole model for LOCAL, else 0."""
    encode_ms: float = 0.0
    payload_bytes: float = 0.0
    """Mean payload size on calibration frames."""
    decode_ms: float = 0.0
    cloud_ms: float = 0.0
    """Model time on the worker: the tail for SPLIT, the whole model for FRAME, else 0."""
    resume_ms: float = 0.0
    """Time of the tail on the edge (SPLIT only)."""
    variant: str = ""
    """Which files run on the edge, for LOCAL and SPLIT: "" the model's own, "int8" quantised ones, "small" those of
    the smaller model."""
    key_bytes: float = 0.0
    """Of a stateful codec: mean size of a payload that follows nothing, as after a loss; 0 for the others."""

    @property
    def remote(self) -> bool:
        return self.place in (Place.SPLIT, Place.FRAME)
