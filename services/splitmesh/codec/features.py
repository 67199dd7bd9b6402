"""Owns the tensor codec: float32 feature tensors ↔ one payload. Refuses NaN, Inf and shapes it was not told of.

Per channel an affine map takes [min, max] to 2^bits levels; `u8lz4` then stores bit planes through LZ4, `u8zstd`
predicts each symbol from the one above (from the left where a channel has one row) when that helps, packs two symbols
of up to 4 bits into a byte and stores them through zstd. Nothing is clipped: on cuts of three models, clipping at
percentiles or at three to four standard deviations made payloads larger, as the finer steps that it buys cost more
bits than the tails do, and agreement no better.

Level = bits. A decoded element is off by at most half a step, (max − min)/(2^bits − 1)/2 of its channel, plus at
most a sixteenth of a step for the rounding of the side information.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.affine import LARGEST, dequantise, quantise, side_information
from splitmesh.codec.blocks import Block, compress, decompress
from splitmesh.codec.container import Buffer, Container, Section, build, parse
from splitmesh.codec.registry import FEATURE_CODECS, check_level
from splitmesh.codec.symbols import (
    PACKED_BITS,
    entropy,
    pack,
    predict_from_above,
    predict_from_left,
    undo_from_above,
    undo_from_left,
    unpack,
)
from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]

_MIN_GROUP: Final = 16
"""Elements below which a channel shares the whole tensor's affine map: its side bytes would exceed its data."""

_WIDE, _LEFT, _ABOVE = 0x01, 0x02, 0x04
_BLOCKS: Final = {"u8lz4": Block.LZ4_BITPLANES, "u8zstd": Block.ZSTD_SYMBOLS}


def encode_features(tensors: Mapping[str, F32], *, codec: str, level: int) -> bytes:
    """Code `tensors` (name → float32 (1, C, H, W), also (1, C), (1, C, L)) into one payload.

    codec: "u8lz4" or "u8zstd". level: quantiser bits, 3 … 8.
    Raises CodecError for an unknown codec or level, another dtype or shape, and for NaN, Inf or magnitudes above
    1e30, naming the tensor.
    """
    check_feature_codec(codec, level)
    return build(codec, level, [_encode(name, tensor, codec, level) for name, tensor in tensors.items()])


def decode_features(payload: Buffer, *, expect: Mapping[str, Sequence[int]]) -> dict[str, F32]:
    """Decode a payload into name → float32 C-contiguous tensor, in the order of `expect` (name → shape).

    Raises CodecError when the payload is malformed, is not of a feature codec, or holds other tensors or shapes
    than `expect`; nothing larger than `expect` is allocated.
    """
    container = parse(payload)
    if container.codec not in FEATURE_CODECS:
        raise CodecError(f"payload is coded with {container.codec!r}, which is not a feature codec")
    check_feature_codec(container.codec, container.level)
    sections = {section.name: section for section in container.sections}
    if sections.keys() != expect.keys():
        raise CodecError(f"payload holds tensors {sorted(sections)}, expected {sorted(expect)}")
    for name, shape in expect.items():
        if sections[name].shape != tuple(shape):
            raise CodecError(f"tensor {name!r} has shape {sections[name].shape}, expected {tuple(shape)}")
    return {name: _decode(sections[name], container) for name in expect}


def check_feature_codec(codec: str, level: int) -> None:
    """Raises CodecError unless `codec` is one of FEATURE_CODECS and `level` within its bounds."""
    if codec not in FEATURE_CODECS:
        raise CodecError(f"unknown feature codec {codec!r}", advice=f"known: {', '.join(FEATURE_CODECS)}")
    check_level(codec, level)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a shape is seen: `groups` affine maps over `rows` rows of `columns` neighbouring elements each."""

    groups: int
    rows: int
    columns: int

    @staticmethod
    def of(name: str, shape: tuple[int, ...]) -> _Layout:
        if len(shape) < 2 or shape[0] != 1:
            raise CodecError(f"tensor {name!r} has shape {shape}, expected (1, C, …)")
        columns = shape[-1]
        inner = math.prod(shape[2:])
        if inner < _MIN_GROUP:
            return _Layout(1, math.prod(shape) // columns, columns)
        return _Layout(shape[1], inner // columns, columns)

    @property
    def count(self) -> int:
        return self.groups * self.rows * self.columns


def _encode(name: str, tensor: F32, codec: str, bits: int) -> Section:
    if tensor.dtype != np.float32 or tensor.size == 0:
        raise CodecError(f"tensor {name!r} is {tensor.dtype} of {tensor.size} elements, expected float32")
    layout = _Layout.of(name, tensor.shape)
    rows = tensor.reshape(layout.groups, layout.rows * layout.columns)
    low, high = rows.min(axis=1), rows.max(axis=1)
    if not max(high.max(), -low.min()) <= LARGEST:  # also false for NaN
        raise CodecError(f"tensor {name!r} holds NaN, Inf or magnitudes above {LARGEST:g}")
    top = (1 << bits) - 1
    side, offset, step = side_information(low, high, top)
    symbols = quantise(rows, offset, step).reshape(layout.groups, layout.rows, layout.columns)
    mode = _WIDE if len(side) == 8 * layout.groups else 0
    if codec == "u8zstd":
        predict, flag = (predict_from_above, _ABOVE) if layout.rows > 1 else (predict_from_left, _LEFT)
        predicted = predict(symbols, top)
        if entropy(predicted) < entropy(symbols):
            symbols, mode = predicted, mode | flag
        if bits <= PACKED_BITS:
            symbols = pack(symbols.reshape(-1))
    return Section(name, tensor.shape, mode, side, compress(symbols, _BLOCKS[codec]))


def _decode(section: Section, container: Container) -> F32:
    layout, bits = _Layout.of(section.name, section.shape), container.level
    packed = container.codec == "u8zstd" and bits <= PACKED_BITS
    wide = bool(section.mode & _WIDE)
    prediction = section.mode & ~_WIDE
    if prediction not in (0, _LEFT, _ABOVE):
        raise CodecError(f"tensor {section.name!r} has unknown mode {section.mode:#x}")
    if len(section.side) != layout.groups * (8 if wide else 4):
        raise CodecError(f"tensor {section.name!r} has {len(section.side)} bytes of side information")
    parameters = np.frombuffer(section.side, "<f4" if wide else "<f2").astype(np.float32)
    offset, step = parameters[: layout.groups], parameters[layout.groups :]
    if not (np.abs(offset).max() <= 2 * LARGEST and step.min() >= 0 and step.max() <= 2 * LARGEST):
        raise CodecError(f"tensor {section.name!r} has side information out of range")
    count = layout.count
    symbols = decompress(section.data, (count + 1) // 2 if packed else count, _BLOCKS[container.codec])
    if packed:
        symbols = unpack(symbols, count)
    if prediction:
        grid = symbols.reshape(layout.groups, layout.rows, layout.columns)
        symbols = (undo_from_above if prediction == _ABOVE else undo_from_left)(grid, (1 << bits) - 1)
    return dequantise(symbols.reshape(layout.groups, -1), offset, step).reshape(section.shape)
