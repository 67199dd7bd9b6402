"""Owns what the plane coder in plain Python knows around an element, and which cells that names: the mirror of
`_field.h`. Codes nothing.

What concerns a whole plane is worked out in numpy, what depends on the element before in lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.planes.taps import LARGEST_SIZE, LARGEST_VALUE, LARGEST_WHOLE, VALUE_TAPS

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U16 = npt.NDArray[np.uint16]

KINDS: Final = 3
"""How many cells a size's context has: for "zero?", "one?" and "more?"."""
_SHADE_ENDS: Final = (3, 5, 7, 9, 12, 15, 19, 24, 30, 38, 48, 64, 80, 100, 140, 256)
_SHADE: Final = [next(i for i, end in enumerate(_SHADE_ENDS) if v < end) for v in range(256)]


@dataclass(frozen=True, slots=True)
class Tensor:
    values: I16
    """(K, H, W), of the encoder's, or for the decoder to fill."""
    scale: U16
    """(K, H, W)"""
    context: I16 | None
    slot: int


def _quarters(values: I64) -> I64:
    """Logarithms in quarter octaves, 1 for 1; 0 for 0."""
    top = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1
    logs: I64 = np.where(values > 0, 4 * top + ((values << 2 >> np.maximum(top, 0)) & 3) + 1, 0)
    return logs


_QUARTERS: Final = _quarters(np.arange(4096)).tolist()
_HALVES: Final = [(quarter + 1) >> 1 for quarter in _QUARTERS]


def quarters_of(value: int) -> int:
    if value < 4096:
        return int(_QUARTERS[value])
    top = value.bit_length() - 1
    return 4 * top + (value << 2 >> top & 3) + 1


def _halves(values: I64, most: int) -> I64:
    logs: I64 = np.minimum((_quarters(values) + 1) >> 1, most)
    return logs


def margin(plane: npt.NDArray[Any]) -> I64:
    return np.pad(plane.astype(np.int64), 2)


def _around(plane: I64) -> I64:
    """Sums of 3 × 3, the middle four times and its neighbours twice; (H, W) of a plane with its margin."""
    rows = plane[1:-3] + 2 * plane[2:-2] + plane[3:-1]
    sums: I64 = rows[:, 1:-3] + 2 * rows[:, 2:-2] + rows[:, 3:-1]
    return sums


class Field:
    """What both ends know of one tensor so far. Planes have a margin of two elements all around."""

    def __init__(self, tensor: Tensor) -> None:
        planes, height, width = tensor.values.shape
        self.shape = shape = (height + 4, width + 4)
        self.values = np.zeros((planes, *shape), np.int64)
        self.sizes = np.zeros((planes, *shape), np.int64)
        self.seen = np.zeros(shape, np.int64)
        self.expected = np.zeros(shape, np.int64)
        self.whole = np.zeros(shape, np.int64)
        self.other = np.zeros(shape, np.int64)
        context = tensor.context
        held = np.zeros((1, height, width)) if context is None else np.clip(context, -LARGEST_VALUE, LARGEST_VALUE)
        self.other_sum = np.minimum(np.abs(held), 8).sum(axis=0).astype(np.int64)

    def note(self, k: int, values: I16) -> None:
        self.values[k] = margin(np.clip(values, -LARGEST_VALUE, LARGEST_VALUE))
        self.sizes[k] = margin(np.minimum(np.abs(values.astype(np.int64)), LARGEST_SIZE))

    def absorb(self, k: int, scale: U16) -> None:
        self.seen += 16 * self.sizes[k]
        self.expected += margin(np.minimum(scale, 240))
        self.whole = np.minimum(self.whole + self.sizes[k], LARGEST_WHOLE)

    def sign_list(self, k: int) -> list[int]:
        """0 zero, 1 positive, 2 negative, flat with margins; zeros for planes that are not there."""
        if k < 0:
            return [0] * (self.shape[0] * self.shape[1])
        flat = self.values[k].reshape(-1)
        signs: list[int] = np.where(flat < 0, 2, flat > 0).tolist()
        return signs


class Plane:
    """What stays the same, or only grows, while one plane is coded: lists, by element i or by o with margins."""

    def __init__(self, field: Field, taps: list[list[int]], k: int, slot: int, scale: U16) -> None:
        self.slot = slot
        self.stride = field.shape[1]
        blank = [0] * (field.shape[0] * field.shape[1])
        self.values, self.sizes, self.signs = blank[:], blank[:], blank[:]
        self.signs1, self.signs2, self.signs3 = (field.sign_list(k - back) for back in (1, 2, 3))
        self.ahead, self.own = self._look(field, taps[:VALUE_TAPS], k, field.values, field.other)
        self.bulk, self.own_bulk = self._look(field, taps[VALUE_TAPS:], k, field.sizes, field.whole)
        wide = scale.astype(np.int64).reshape(-1)
        self.level: list[int] = _halves(wide, 15).tolist()
        inner = (slice(2, -2), slice(2, -2))
        ratio = (_quarters(field.seen[inner] + 8) - _quarters(field.expected[inner] + 8) + 15) >> 1
        self.against: list[int] = np.clip(ratio, 0, 15).reshape(-1).tolist()
        near = _quarters(_around(field.seen) + 32) - _quarters(_around(field.expected) + 32)
        self.due: list[int] = np.clip((_quarters(wide) + near.reshape(-1)) >> 1, 0, 15).tolist()
        r = np.abs(field.other)
        there = _halves(r[2:-2, 1:-3] + r[2:-2, 3:-1] + r[1:-3, 2:-2] + r[3:-1, 2:-2], 5)
        rest = (_halves(field.other_sum, 7) * 6 + there) * 4 + np.minimum(r[inner], 3)
        self.rest: list[int] = rest.reshape(-1).tolist()
        self.other: list[int] = field.other.reshape(-1).tolist()

    def _look(
        self, field: Field, taps: list[list[int]], k: int, planes: I64, special: I64
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """What taps on other planes add up to, by element; the taps on this one, as (offset, weight)."""
        height, width = field.shape[0] - 4, field.shape[1] - 4
        total = np.zeros((height, width), np.int64)
        own = []
        for back, dy, dx, weight in taps:
            if weight and back == 0:
                own.append((dy * self.stride + dx, weight))
            elif weight and back <= k:
                source = special if back < 0 else planes[k - back]
                total += weight * source[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
        sums: list[int] = total.reshape(-1).tolist()
        return sums, own

    def note(self, o: int, value: int) -> None:
        self.values[o] = min(max(value, -LARGEST_VALUE), LARGEST_VALUE)
        self.sizes[o] = min(abs(value), LARGEST_SIZE)
        self.signs[o] = (value > 0) + 2 * (value < 0)

    def size_contexts(self, base: list[int], i: int, o: int) -> tuple[int, int, list[int]]:
        """The predicted value in 1/16, its shade, and every input's cell."""
        c, s = self.sizes, self.stride
        value, size = self.ahead[i], self.bulk[i]
        for offset, weight in self.own:
            value += weight * self.values[o + offset]
        for offset, weight in self.own_bulk:
            size += weight * c[o + offset]
        value >>= 8
        size >>= 4
        shade = _SHADE[min(abs(value), 255)]
        bulk = min(max(quarters_of(size) - 4, 0), 31) if size > 0 else 0
        near = 4 * (c[o - s] + c[o - 1]) + 2 * (c[o - s - 1] + c[o - s + 1]) + c[o - 2] + c[o - 2 * s]
        near = min(_HALVES[near], 9)
        due, against = self.due[i], self.against[i]
        cells_ = [
            base[0] + KINDS * (bulk * 24 + shade),
            base[1] + KINDS * (due * 24 + shade),
            base[2] + KINDS * ((due * 10 + near) * 16 + against),
            base[3] + KINDS * (self.slot * 16 + against),
            base[4] + KINDS * (self.level[i] * 192 + self.rest[i]),
        ]
        return value, shade, cells_

    def sign_contexts(self, base: list[int], o: int, predicted: int, shade: int) -> list[int]:
        c, s, slot = self.signs, self.stride, self.slot
        n, w, nw, ne = c[o - s], c[o - 1], c[o - s - 1], c[o - s + 1]
        there = self.other[o]
        hue = (256 if there > 0 else 128 if there < 0 else 0) + min(max(64 + predicted, 0), 127)
        before = (self.signs1[o] * 3 + self.signs2[o]) * 3 + self.signs3[o]
        return [
            base[0] + slot * 32 + shade * 2 + (predicted < 0),
            base[1] + hue,
            base[2] + slot * 27 + before,
            base[3] + ((((n * 3 + w) * 3 + nw) * 3 + ne) * 3 + c[o - 2]) * 3 + c[o - 2 * s],
            base[4] + slot * 27 + (ne * 3 + nw) * 3 + w,
        ]
