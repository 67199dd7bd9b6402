"""Owns fitting the plane coder's linear predictions: which neighbours tell how much of an element. Codes nothing.

Two per plane: of an element's value, from values of its plane, of earlier ones and of the context's; and of its size,
from sizes of the same planes and from what all earlier planes hold together. Second-order statistics of all planes,
pooled over the examples, give every plane's normal equations; neighbours are taken greedily, the one that explains
most of what is left first (orthogonal matching pursuit; Pati, Rezaiifar & Krishnaprasad, 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I16 = npt.NDArray[np.int16]

VALUE_TAPS: Final = 32
SIZE_TAPS: Final = 16
TAPS: Final = VALUE_TAPS + SIZE_TAPS
LARGEST_VALUE: Final = 255
"""Values are held to this, either way, before they are weighed."""
LARGEST_SIZE: Final = 15
LARGEST_WHOLE: Final = 2047
"""The same for magnitudes, and for sums of them over planes."""
ONE: Final = 4096
"""The weight that stands for 1."""

_FAR: Final = 3
"""From two elements before to one behind."""
_CAUSAL: Final = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
_AROUND: Final = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
_EASE: Final = 1e-3
"""Of the mean neighbour's energy, added to each: keeps the equations well posed."""
_MOST_VALUES: Final = 8_000_000
"""How many elements of the examples are looked at: more tell little."""


def fit_taps(examples: Sequence[tuple[I16, I16 | None]], planes: int) -> I16:
    """Taps (planes, TAPS, 4) int16 of one tensor: (back, dy, dx, weight), values' first, then
    sizes'.

    examples: (values (K, H, W), context (K, H, W) or None), K ≤ `planes`. `back`: how many planes earlier; −1: in the
    context's plane, for sizes in the sum of all earlier planes' sizes. A weight of 0 is no tap.
    """
    values = [(_held(each, LARGEST_VALUE), None if c is None else _held(c, LARGEST_VALUE)) for each, c in examples]
    sizes = [np.minimum(np.abs(each.astype(np.int32)), LARGEST_SIZE).astype(np.int16) for each, _ in examples]
    wholes = [np.minimum(np.cumsum(size, 0) - size, LARGEST_WHOLE).astype(np.int16) for size in sizes]
    return np.concatenate(
        [
            _fit(values, planes, VALUE_TAPS),
            _fit(list(zip(sizes, wholes, strict=True)), planes, SIZE_TAPS),
        ],
        axis=1,
    )


def _held(values: I16, most: int) -> I16:
    return np.clip(values, -most, most)


def _fit(examples: Sequence[tuple[I16, I16 | None]], planes: int, taps: int) -> I16:
    table = np.zeros((planes, taps, 4), np.int16)
    statistics = _statistics(examples, planes)
    for k in range(planes):
        own = [(k, 0, dy, dx) for dy, dx in _CAUSAL]
        earlier = [(j, k - j, dy, dx) for j in range(k) for dy, dx in _AROUND]
        special = [(planes + k, -1, dy, dx) for dy, dx in _AROUND]
        candidates = np.array(own + earlier + (special if len(statistics[0, 0]) > planes else []))
        chosen, weights = _pursue(statistics, candidates, k, taps)
        rounded = np.clip(np.rint(weights * ONE), -32_767, 32_767)
        table[k, : len(chosen), :3] = candidates[chosen, 1:]
        table[k, : len(chosen), 3] = rounded
    return table


def _statistics(examples: Sequence[tuple[I16, I16 | None]], planes: int) -> F64:
    """(7, 7, P, P): sum of x_i(p)·x_j(p + d) at [_FAR + dy, _FAR + dx, i, j], P planes and then contexts."""
    rows = planes if all(context is None for _, context in examples) else 2 * planes
    lags = range(-_FAR, _FAR + 1)
    total = np.zeros((len(lags), len(lags), rows, rows))
    every = max(1, -(-sum(values.size for values, _ in examples) // _MOST_VALUES))
    for values, context in examples[::every]:
        _, height, width = values.shape
        wide = np.zeros((rows, height + 2 * _FAR, width + 2 * _FAR), np.float32)
        wide[: len(values), _FAR:-_FAR, _FAR:-_FAR] = values
        if context is not None:
            wide[planes : planes + len(context), _FAR:-_FAR, _FAR:-_FAR] = context
        here = wide[:, _FAR:-_FAR, _FAR:-_FAR].reshape(rows, -1)
        share = np.float32(1 / max(float(np.square(here[:planes]).mean()), 1e-3))
        for dy in lags:
            for dx in lags:
                if (dy, dx) >= (0, 0):
                    there = wide[:, _FAR + dy : _FAR + dy + height, _FAR + dx : _FAR + dx + width].reshape(rows, -1)
                    total[_FAR + dy, _FAR + dx] += (here * share) @ there.T
    for dy in lags:
        for dx in lags:
            if (dy, dx) < (0, 0):
                total[_FAR + dy, _FAR + dx] = total[_FAR - dy, _FAR - dx].T
    return total


def _pursue(statistics: F64, candidates: npt.NDArray[np.int64], k: int, most: int) -> tuple[list[int], F64]:
    """Which candidates (plane, …, dy, dx) to take for plane k, at most `most`, and their weights."""
    plane, dy, dx = candidates[:, 0], candidates[:, 2], candidates[:, 3]
    energy = statistics[_FAR, _FAR, plane, plane]
    ease = _EASE * max(float(energy.mean()), 1e-9)
    target = statistics[_FAR + dy, _FAR + dx, k, plane]
    chosen: list[int] = []
    weights = np.zeros(0)
    columns = np.zeros((len(candidates), 0))
    for _ in range(min(most, len(candidates))):
        gain = np.square(target - columns @ weights) / (energy + ease)
        gain[chosen] = -1
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        chosen.append(best)
        column = statistics[_FAR + dy[best] - dy, _FAR + dx[best] - dx, plane, plane[best]]
        columns = np.column_stack([columns, column])
        weights = np.linalg.solve(columns[chosen] + ease * np.eye(len(chosen)), target[chosen])
    return chosen, weights
