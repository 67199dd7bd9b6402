"""Owns the plane coder in plain Python: the mirror of `_core.c`, bit by bit, where nothing was compiled.

Some hundred times slower than its twin. `encode`, `decode` and `cells` are those of `_native`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.planes.arithmetic import RATE, SQUASH, STRETCH, Coder, Decoder, Encoder
from splitmesh.codec.planes.neighbourhood import KINDS, Field, Plane, Tensor, margin, quarters_of
from splitmesh.codec.planes.taps import LARGEST_VALUE

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]

_INPUTS: Final = 5
_LADDER: Final = 6
_COUNT_LIMIT: Final = 255
_PLAIN: Final = 512
_ESCAPE_AT: Final = 64
_LEAD_AT: Final = 320
_SIGN_SET: Final = 48
_PER_SLOT: Final = (0, 0, 0, 48, 0)
_FIXED: Final = (2304, 1152, 7680, 0, 9216)
_SIGNS_PER_SLOT: Final = (32, 0, 27, 0, 27)
_SIGNS_FIXED: Final = (0, 384, 0, 729, 0)
_ONES: Final = (1 << 22) - 1
_MOST_WEIGHT: Final = 1 << 19


def _lay_out(slots: int) -> tuple[list[int], list[int], int]:
    """Where each input's cells for sizes and for signs start, and how many cells there are."""
    sizes, signs, at = [], [], _PLAIN
    for i in range(_INPUTS):
        sizes.append(at)
        at += _PER_SLOT[i] * slots + _FIXED[i]
        signs.append(at)
        at += _SIGNS_PER_SLOT[i] * slots + _SIGNS_FIXED[i]
    return sizes, signs, at


def cells(slots: int, /) -> int:
    return _lay_out(slots)[2]


def encode(state: U32, slots: int, taps: I16, layout: I32, values: I16, scales: U16, contexts: I16, /) -> bytes:
    coder = Encoder()
    run = _Run(state, slots, taps, coder)
    for tensor in _cut_up(layout, values, scales, contexts):
        run.code_tensor(tensor, decoding=False)
    run.give_back(state)
    return coder.finish()


def decode(
    state: U32, slots: int, taps: I16, layout: I32, values: I16, scales: U16, contexts: I16, data: bytes, /
) -> None:
    coder = Decoder(data)
    run = _Run(state, slots, taps, coder)
    for tensor in _cut_up(layout, values, scales, contexts):
        run.code_tensor(tensor, decoding=True)
    run.give_back(state)
    coder.finish()


def _cut_up(layout: I32, values: I16, scales: U16, contexts: I16) -> Iterator[Tensor]:
    at = scale_at = context_at = 0
    for k, h, w, slot, dense, has_context in layout.tolist():
        size = k * h * w
        scale = scales[scale_at : scale_at + (size if dense else k)]
        whole = scale.reshape(k, h, w) if dense else np.broadcast_to(scale[:, None, None], (k, h, w))
        context = contexts[context_at : context_at + size].reshape(k, h, w) if has_context else None
        yield Tensor(values[at : at + size].reshape(k, h, w), whole, context, slot)
        at += size
        scale_at += scale.size
        context_at += size if has_context else 0


def _turn(at: list[int], predicted: int, shade: int, negative: int) -> None:
    """Once the sign is known, the prediction speaks of that sign."""
    if negative != (predicted < 0):
        shift = KINDS * (16 + (shade >> 1) - shade)
        at[0] += shift
        at[1] += shift


class _Run:
    """One call: the state that learns, and the coder that it feeds."""

    def __init__(self, state: U32, slots: int, taps: I16, coder: Coder) -> None:
        self._base, self._sign_base, count = _lay_out(slots)
        self._cells: list[int] = state[:count].tolist()
        self._weights: list[int] = state[count:].view(np.int32).tolist()
        self._taps: list[list[list[int]]] = taps.tolist()
        self._slots = slots
        self._coder = coder

    def give_back(self, state: U32) -> None:
        state[: len(self._cells)] = self._cells
        state[len(self._cells) :] = np.array(self._weights, np.int32).view(np.uint32)

    # -- bits

    def _mixed(self, bit: int, at: list[int], rung: int, row: int) -> int:
        """A bit by cells at + rung and the weights of `row`."""
        cells_, weights, row = self._cells, self._weights, row * _INPUTS
        spots = [each + rung for each in at]
        odds = [STRETCH[cells_[spot] >> 20] for spot in spots]
        total = sum(weights[row + i] * odd for i, odd in enumerate(odds)) >> 16
        one = SQUASH[min(max(total, -2047), 2047) + 2048]
        bit = self._coder.code(bit, one)
        error = (bit << 16) - one
        for i, spot in enumerate(spots):
            weight = weights[row + i] + ((odds[i] * error + (1 << 17)) >> 18)
            weights[row + i] = min(max(weight, -_MOST_WEIGHT), _MOST_WEIGHT)
            self._learn(spot, bit)
        return bit

    def _learn(self, spot: int, bit: int) -> None:
        cell = self._cells[spot]
        count, p = cell & 1023, cell >> 10
        p += ((_ONES if bit else 0) - p) * RATE[count] >> 16
        self._cells[spot] = p << 10 | (count + 1 if count < _COUNT_LIMIT else count)

    def _plain(self, bit: int, spot: int) -> int:
        bit = self._coder.code(bit, min(max(self._cells[spot] >> 16, 32), 65_504))
        self._learn(spot, bit)
        return bit

    def _escape(self, left: int, level: int) -> int:
        value, bits = left + 1, 0
        while bits < 15 and self._plain(int(value >> (bits + 1) != 0), _ESCAPE_AT + level * 16 + bits):
            bits += 1
        read = 1
        for i in range(bits - 1, -1, -1):
            bit = value >> i & 1
            bit = self._plain(bit, _LEAD_AT + bits) if i == bits - 1 else self._coder.code(bit, 32_768)
            read = read << 1 | bit
        return read - 1

    # -- tensors

    def code_tensor(self, tensor: Tensor, *, decoding: bool) -> None:
        field = Field(tensor)
        fill = 3
        for k in range(len(tensor.values)):
            values, scale = tensor.values[k], tensor.scale[k]
            if tensor.context is not None:
                field.other = margin(np.clip(tensor.context[k], -LARGEST_VALUE, LARGEST_VALUE))
            level = min((quarters_of(int(scale.sum(dtype=np.int64)) // scale.size) + 1) >> 1, 15)
            empty = int(not decoding and not values.any())
            if self._plain(empty, level * 4 + fill):
                fill = 0
            else:
                slot = min(tensor.slot + k, self._slots - 1)
                plane = Plane(field, self._taps[slot], k, slot, scale)
                found = self._code_plane(plane, values, decoding)
                field.note(k, values)
                fill = 0 if found == 0 else 1 if found <= 2 else 2 if found <= 8 else 3
            field.absorb(k, scale)

    def _code_plane(self, plane: Plane, values: I16, decoding: bool) -> int:
        """How many elements are not zero."""
        height, width = values.shape
        given = values.tolist()
        found = 0
        for y in range(height):
            row = given[y]
            for x in range(width):
                o = (y + 2) * (width + 4) + x + 2
                i = y * width + x
                value = self._element(plane, i, o, row[x], decoding)
                plane.note(o, value)
                row[x] = value
                found += value != 0
        values[...] = given
        return found

    def _element(self, plane: Plane, i: int, o: int, value: int, decoding: bool) -> int:
        level = plane.level[i]
        predicted, shade, at = plane.size_contexts(self._base, i, o)
        size = abs(value)
        if not self._mixed(int(size > 0), at, 0, level):
            return 0
        signs = plane.sign_contexts(self._sign_base, o, predicted, shade)
        negative = self._mixed(int(value < 0), signs, 0, _SIGN_SET + shade)
        _turn(at, predicted, shade, negative)
        known = 1
        while known < _LADDER:
            kind = min(known, KINDS - 1)
            if not self._mixed(int(size > known), at, kind, kind * 16 + level):
                break
            known += 1
        if known == _LADDER:
            known += self._escape(size - known, level)
        if decoding and known > 32_767 + negative:
            raise ValueError("malformed")
        return -known if negative else known
