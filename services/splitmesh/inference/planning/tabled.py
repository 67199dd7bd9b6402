"""Owns measuring the codecs that need a cut's calibration table: at which levels, and what those send and keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splitmesh.codec.coders import FeatureCoder
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.registry import CODECS
from splitmesh.codec.table_coders import CompactFeatures
from splitmesh.codec.temporal.coder import TemporalCoder
from splitmesh.inference.planning.parity import Part
from splitmesh.inference.planning.rates import Measured, coder_rates, coder_tallies
from splitmesh.inference.planning.stages import Step, quiet, slice_of
from splitmesh.inference.planning.whole import Whole
from splitmesh.plan.bundle.schema import RateRow
from splitmesh.plan.footage import Sample, evenly
from splitmesh.plan.level_search import spread_levels
from splitmesh.plan.rate_curve import rising

LEVELS = 5
"""Measured of each codec; what lies between them is interpolated (`plan.rate_curve`)."""
SEARCHED = (40, 128)
"""Levels between which useful ones lie: steps of eight deviations of the largest component to a 256th of one."""
FINER_BY_FREQUENCY = 8
"""Levels above these for tables with weighed frequencies, whose largest coefficients are many times another's."""
SEARCH_FRAMES = 6
MOST_ELEMENTS = 100_000
"""Of a cut that codecs with a table are tried on: coding a larger one takes longer than the whole model."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """A cut's table, and the levels that are worth measuring with it, finest first."""

    table: CompactTable
    levels: tuple[int, ...]


def tuned(
    whole: Whole, part: Part, table: CompactTable, samples: Sequence[Sample], *, frames: int = SEARCH_FRAMES
) -> Tuned:
    """`table` with the levels that are worth measuring, by what answers on a few `frames` of `samples` keep.

    Raises InferenceError if the head fails.
    """
    telling = [sample for sample in samples if whole.tells(sample)] or samples
    few = evenly(telling, frames)

    def kept(level: int) -> float:
        (tally,) = coder_tallies(whole, part, few, [CompactFeatures(level, table)], quiet)
        return 0.0 if tally.spoilt else float(np.mean([outcome.agreement for outcome in tally.outcomes]))

    low, high = searched(table)
    return Tuned(table, spread_levels(kept, low=low, high=high, count=LEVELS))


def searched(table: CompactTable) -> tuple[int, int]:
    """Levels between which those useful with `table` lie."""
    weighed = any(tensor.frequencies for tensor in table.tensors)
    return SEARCHED[0], SEARCHED[1] + (FINER_BY_FREQUENCY if weighed else 0)


def table_rates(
    whole: Whole, part: Part, by: Tuned, evaluated: Sequence[Sample], consecutive: Sequence[Sample], step: Step
) -> Measured:
    """Rows of "compact" over `evaluated`, and of "temporal" over `consecutive` frames, () for none; see `beside`.

    Raises CodecError if nothing can be coded, InferenceError if the head fails.
    """
    measured = coder_rates(whole, part, evaluated, _compact(by), slice_of(step, 0, 2))
    if consecutive:
        coders = [*_compact(by), *(TemporalCoder(by.table, level) for level in by.levels)]
        moving = coder_rates(whole, part, consecutive, coders, slice_of(step, 1, 2))
        measured.extend(beside(measured, moving, anchor="compact"))
    measured.rows[:] = smoothed(measured.rows)
    step(1.0)
    return measured


def smoothed(rows: Sequence[RateRow]) -> list[RateRow]:
    """`rows` with a fidelity that never falls where a level sends more: over tens of frames it is noisy."""
    found: list[RateRow] = []
    for codec in dict.fromkeys(row.codec for row in rows):
        mine = sorted((row for row in rows if row.codec == codec), key=lambda row: row.bytes_mean)
        kept = rising([row.fidelity for row in mine])
        found += [row.model_copy(update={"fidelity": value}) for row, value in zip(mine, kept, strict=True)]
    return found


def beside(stills: Measured, moving: Measured, *, anchor: str) -> Measured:
    """The rows of `moving` of codecs with a memory, their fidelity as if measured where `stills` was.

    A video's frames are other content than the mix that everything else is measured on. What a stateless codec,
    `anchor`, keeps less (or more) there than here is given back (or taken off): at the same level where it has that
    level, else on average. Bytes, `agreement` and metrics of a row remain those of the frames it ran on.
    """
    here = {row.level: row.fidelity for row in stills.rows if row.codec == anchor}
    there = {row.level: row.fidelity for row in moving.rows if row.codec == anchor}
    gaps = {level: here[level] - there[level] for level in here.keys() & there.keys()}
    typical = float(np.mean(list(gaps.values()))) if gaps else 0.0
    found = Measured(spoilt=moving.spoilt)
    for row in moving.rows:
        if CODECS[row.codec].stateful:
            gap = gaps.get(row.level, typical) if CODECS[row.codec].kind == "features" else typical
            found.rows.append(_moved(row, gap))
            for name in (f"encode {row.point}", f"decode {row.point}"):
                found.times[name] = moving.times[name]
    return found


def _compact(by: Tuned) -> list[FeatureCoder]:
    return [CompactFeatures(level, by.table) for level in by.levels]


def _moved(row: RateRow, gap: float) -> RateRow:
    return row.model_copy(update={"fidelity": min(max(row.fidelity + gap, 0.0), 1.0)})
