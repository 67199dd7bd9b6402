"""Owns what a codec of a cut sends and keeps at any level, between those that were measured. Measures nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from splitmesh.plan.bundle.schema import RateRow


@dataclass(frozen=True, slots=True)
class LevelRate:
    """What one level of a codec sends and keeps."""

    level: int
    payload_bytes: float
    """Mean over frames; without keyframes where the codec is stateful."""
    key_bytes: float
    """0 where the codec is stateless."""
    fidelity: float
    """[0, 1]."""


@dataclass(frozen=True)
class RateCurve:
    """The measured levels of one codec on one cut, or on the picture: at least one, coarsest first.

    Neither bytes nor fidelity falls from a level to a finer one: where a measurement says otherwise it is noise.
    """

    measured: tuple[LevelRate, ...]

    @staticmethod
    def of(rows: Iterable[RateRow], *, cut: str, codec: str, variant: str = "") -> RateCurve | None:
        """The curve of those of a plan's rows; None if there are none."""
        mine = [row for row in rows if (row.cut, row.codec, row.variant) == (cut, codec, variant)]
        if not mine:
            return None
        finest = max(mine, key=lambda row: row.bytes_mean).level
        mine.sort(key=lambda row: abs(finest - row.level), reverse=True)
        sizes = rising([row.bytes_mean for row in mine])
        keys = rising([row.key_bytes for row in mine])
        kept = rising([row.fidelity for row in mine])
        return RateCurve(tuple(map(LevelRate, [row.level for row in mine], sizes, keys, kept)))

    def at(self, level: int) -> LevelRate:
        """Linear in the level: fidelity and the logarithm of bytes. Outside the measured levels: the nearest one."""
        ordered = sorted(self.measured, key=lambda each: each.level)
        levels = [each.level for each in ordered]
        level = min(max(level, levels[0]), levels[-1])
        columns = ([each.payload_bytes for each in ordered], [each.key_bytes for each in ordered])
        size, key = (math.expm1(float(np.interp(level, levels, np.log1p(column)))) for column in columns)
        kept = float(np.interp(level, levels, [each.fidelity for each in ordered]))
        return LevelRate(level, size, key, kept)

    def keeping(self, fidelity: float) -> LevelRate | None:
        """The coarsest level that keeps `fidelity`; None if the finest keeps less."""
        return next((each for each in self._levels() if each.fidelity >= fidelity), None)

    def within(self, payload_bytes: float) -> LevelRate | None:
        """The finest level that sends no more than `payload_bytes` a frame; None if the coarsest sends more."""
        return next((each for each in reversed(self._levels()) if each.payload_bytes <= payload_bytes), None)

    def _levels(self) -> list[LevelRate]:
        """Every level from the coarsest to the finest."""
        coarsest, finest = self.measured[0].level, self.measured[-1].level
        step = 1 if finest >= coarsest else -1
        return [self.at(level) for level in range(coarsest, finest + step, step)]


def rising(values: Sequence[float]) -> list[float]:
    """The sequence nearest to `values` (least squares) that never falls.

    By pooling adjacent violators: Barlow et al., "Statistical Inference under Order Restrictions", 1972, §1.2.
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (before, others) = pools.pop(), pools.pop()
            pools.append(((mean * count + before * others) / (count + others), count + others))
    return [mean for mean, count in pools for _ in range(count)]
