"""Owns the tensor codec: float32 feature tensors ↔ one payload. Refuses NaN, Inf and shapes it was not told of.

Per channel an affine map takes [min, max] to 2^bits levels; `u8lz4` then stores bit planes through LZ4, `u8zstd`
predicts each symbol from its left neighbour (when that helps), packs two symbols of up to 4 bits into a byte and
stores them through zstd. Measured on a detector's [1, 64, 19, 19] cut, wider clipping (percentiles, the optimal
clip of Banner et al., "ACIQ", 2018) cost more agreement than it saved bytes, so nothing is clipped.

Level = bits. A decoded element is off by at most half a step, (max − min)/(2^bits − 1)/2 of its channel, plus at
most a sixteenth of a step for the rounding of the side information.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.blocks import U8, Block, compress, decompress
from splitmesh.codec.container import Buffer, Container, Section, build, parse
from splitmesh.codec.registry import FEATURE_CODECS, check_level
from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]

LARGEST: Final = 1e30
"""Magnitude above which an element is refused, so that no step overflows float32."""
_SMALLEST_STEP: Final = 1e-30
_MIN_GROUP: Final = 16
"""Elements below which a channel shares the whole tensor's affine map: its side bytes would exceed its data."""
_PACKED_BITS: Final = 4
_SAMPLE: Final = 32_768

_WIDE, _PREDICTED = 0x01, 0x02
_BLOCKS: Final = {"u8lz4": Block.LZ4_BITPLANES, "u8zstd": Block.ZSTD_SYMBOLS}


def encode_features(tensors: Mapping[str, F32], *, codec: str, level: int) -> bytes:
    """Code `tensors` (name → float32 (1, C, H, W), also (1, C), (1, C, L)) into one payload.

    codec: "u8lz4" or "u8zstd". level: quantiser bits, one of FEATURE_CODECS[codec].
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
    """Raises CodecError unless `codec` is a feature codec and `level` one of its levels."""
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
        inner = int(np.prod(shape[2:], dtype=np.int64))
        if inner < _MIN_GROUP:
            return _Layout(1, int(np.prod(shape, dtype=np.int64)) // columns, columns)
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
    side, offset, step = _side_information(low, high, top)
    inverse = np.divide(1.0, step, out=np.zeros_like(step), where=step > 0)
    scaled = rows - offset[:, None]
    scaled *= inverse[:, None]
    scaled += np.float32(0.5)
    np.clip(scaled, 0, top + 0.5, out=scaled)
    symbols: U8 = scaled.astype(np.uint8)
    mode = _WIDE if len(side) == 8 * layout.groups else 0
    if codec == "u8zstd":
        predicted = _predict(symbols, layout, top)
        if _entropy(predicted) < _entropy(symbols):
            symbols, mode = predicted, mode | _PREDICTED
        if bits <= _PACKED_BITS:
            symbols = _pack(symbols.reshape(-1))
    return Section(name, tensor.shape, mode, side, compress(symbols, _BLOCKS[codec]))


def _decode(section: Section, container: Container) -> F32:
    layout, bits = _Layout.of(section.name, section.shape), container.level
    packed = container.codec == "u8zstd" and bits <= _PACKED_BITS
    wide = bool(section.mode & _WIDE)
    if section.mode & ~(_WIDE | _PREDICTED):
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
        symbols = _unpack(symbols, count)
    if section.mode & _PREDICTED:
        symbols = _undo_prediction(symbols, layout, (1 << bits) - 1)
    values = symbols.reshape(layout.groups, -1).astype(np.float32)
    values *= step[:, None]
    values += offset[:, None]
    return values.reshape(section.shape)


def _side_information(low: F32, high: F32, top: int) -> tuple[bytes, F32, F32]:
    """(bytes, offset, step) with offset and step (groups,) as the decoder will read them.

    float16 where its rounding moves no level of any channel by more than a sixteenth of a step, else float32.
    """
    exact = (high.astype(np.float64) - low) / top
    exact[exact < _SMALLEST_STEP] = 0.0
    with np.errstate(over="ignore", under="ignore"):
        narrow_offset = low.astype(np.float16)
        narrow_step = exact.astype(np.float16)
    offset, step = narrow_offset.astype(np.float32), narrow_step.astype(np.float32)
    drift = np.abs(offset.astype(np.float64) - low) + np.abs(step.astype(np.float64) - exact) * top
    if bool((drift <= exact / 16).all()):
        return narrow_offset.tobytes() + narrow_step.tobytes(), offset, step
    step = exact.astype(np.float32)
    return low.astype("<f4").tobytes() + step.astype("<f4").tobytes(), low, step


def _predict(symbols: U8, layout: _Layout, top: int) -> U8:
    """Symbols minus their left neighbour, a row's first minus the one above it, modulo top + 1."""
    grid = symbols.reshape(layout.groups, layout.rows, layout.columns)
    out = np.empty_like(grid)
    np.subtract(grid[:, :, 1:], grid[:, :, :-1], out=out[:, :, 1:])
    np.subtract(grid[:, 1:, 0], grid[:, :-1, 0], out=out[:, 1:, 0])
    out[:, 0, 0] = grid[:, 0, 0]
    out &= np.uint8(top)
    return out


def _undo_prediction(symbols: U8, layout: _Layout, top: int) -> U8:
    grid = symbols.reshape(layout.groups, layout.rows, layout.columns)
    np.cumsum(grid[:, :, 0], axis=1, dtype=np.uint8, out=grid[:, :, 0])
    np.cumsum(grid, axis=2, dtype=np.uint8, out=grid)
    grid &= np.uint8(top)
    return grid


def _pack(symbols: U8) -> U8:
    """Two symbols per byte, the earlier one in the high half; an odd last one has zeros below it."""
    out: U8 = symbols[0::2] << np.uint8(4)
    out[: symbols.size // 2] |= symbols[1::2]
    return out


def _unpack(packed: U8, count: int) -> U8:
    out: U8 = np.empty(2 * packed.size, np.uint8)
    np.right_shift(packed, 4, out=out[0::2])
    np.bitwise_and(packed, 15, out=out[1::2])
    return out[:count]


def _entropy(symbols: U8) -> float:
    """Order-0 entropy in bits per symbol, of a sample when there are many."""
    flat = symbols.reshape(-1)
    counts = np.bincount(flat[:_SAMPLE], minlength=1)
    counts = counts[counts > 0]
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
