"""Owns what both ends of a temporal stream remember of a frame, and which frames they keep. Predicts nothing.

All of it is integers that follow from payloads alone, so both ends have the same to the bit; `Reference.hash` is
what they compare. Frames are numbered modulo 2^16.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.quantise import dequantise
from splitmesh.codec.compact.transform import TensorTable

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]

NUMBERS: Final = 1 << 16
LARGEST: Final = 1 << 26
"""Bound of a reconstruction's magnitude, in 1/256 of a unit."""
CALM: Final = 8
"""A component's residuals are expected to be this much smaller than the component, until there are residuals."""
_FORGET: Final = 4


@dataclass(frozen=True, eq=False)
class Planes:
    """What is remembered of one tensor."""

    values: I32
    """(K, H, W) reconstruction in 1/256 of a unit, within ±`LARGEST`."""
    residual: I16
    """(K, H, W) the symbols that led here; all 0 after a keyframe."""
    spread: I32
    """(K,) running mean of the residuals' magnitude, in 1/256 of a unit, ≥ 0."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A frame that later ones may build on."""

    number: int
    tensors: tuple[Planes, ...]
    """In the table's order."""

    @cached_property
    def hash(self) -> int:
        """CRC-32 of the number and of every integer above, little endian."""
        crc = zlib.crc32(self.number.to_bytes(2, "little"))
        for planes in self.tensors:
            for part in (planes.values, planes.residual, planes.spread):
                crc = zlib.crc32(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data, crc)
        return crc


class References:
    """The `kept` frames that were used last, by number."""

    def __init__(self, kept: int) -> None:
        if kept < 1:
            raise ValueError(f"a stream keeps at least one reference, not {kept}")
        self._kept = kept
        self._frames: OrderedDict[int, Reference] = OrderedDict()

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: Reference) -> None:
        self._frames[frame.number] = frame
        self._frames.move_to_end(frame.number)
        while len(self._frames) > self._kept:
            self._frames.popitem(last=False)

    def use(self, number: int) -> Reference | None:
        """The frame `number`, from now on the one used last; None if it is not held."""
        frame = self._frames.get(number)
        if frame is not None:
            self._frames.move_to_end(number)
        return frame

    def clear(self) -> None:
        self._frames.clear()


def of_keyframe(tensor: TensorTable, symbols: I16, step: int) -> Planes:
    """What is remembered of a tensor that stands alone: symbols (≤ K, H, W) of step/256 units, the rest 0."""
    values = np.zeros((len(tensor.spread), tensor.height, tensor.width), np.int32)
    values[: len(symbols)] = dequantise(symbols, step)
    return Planes(_bounded(values), np.zeros(values.shape, np.int16), np.minimum(tensor.spread, LARGEST) // CALM)


def of_residual(predicted: I32, earlier: Planes, symbols: I16, step: int) -> Planes:
    """What is remembered of a tensor after symbols (≤ K, H, W) of step/256 units on top of predicted (K, H, W)."""
    kept = len(symbols)
    values = np.empty_like(predicted)
    np.add(predicted[:kept], dequantise(symbols, step), out=values[:kept])
    values[kept:] = predicted[kept:]
    residual = np.zeros(values.shape, np.int16)
    residual[:kept] = symbols  # the decoder refuses -32768, whose magnitude is no int16
    mean = np.abs(symbols).reshape(kept, -1).sum(axis=1, dtype=np.int64) * step // symbols[0].size
    spread = earlier.spread.copy()
    spread[:kept] += (np.minimum(mean, LARGEST).astype(np.int32) - spread[:kept]) // _FORGET
    return Planes(_bounded(values), residual, spread)


def _bounded(values: I32) -> I32:
    return np.clip(values, -LARGEST, LARGEST, out=values)
