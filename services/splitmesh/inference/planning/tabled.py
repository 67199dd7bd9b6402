"""Owns measuring the codecs that need a cut's calibration table: at which levels, and what those send and keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splitmesh.codec.coders import FeatureCoder
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.table_coders import CompactFeatures, TemporalFeatures
from splitmesh.errors import CodecError
from splitmesh.inference.planning.parity import Part
from splitmesh.inference.planning.rates import Measured, coder_rates, coder_tallies
from splitmesh.inference.planning.stages import Step, quiet, slice_of
from splitmesh.inference.planning.whole import Whole
from splitmesh.plan.bundle.schema import RateRow
from splitmesh.plan.footage import Sample, evenly
from splitmesh.plan.level_search import spread_levels

LEVELS = 6
"""Measured of each codec; what lies between them is interpolated (`plan.rate_curve`)."""
SEARCHED = (40, 128)
"""Levels between which useful ones lie: a step of two to of a 256th of the largest component's deviation."""
SEARCH_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Tuned:
    """A cut's table, and the levels that are worth measuring with it, finest first."""

    table: CompactTable
    levels: tuple[int, ...]


def tuned(whole: Whole, part: Part, table: CompactTable, samples: Sequence[Sample]) -> Tuned:
    """`table` with the levels that are worth measuring, by what answers on a few of `samples` keep.

    Raises InferenceError if the head fails.
    """
    telling = [sample for sample in samples if whole.tells(sample)] or samples
    few = evenly(telling, SEARCH_FRAMES)

    def agreement(level: int) -> float:
        try:
            (tally,) = coder_tallies(whole, part, few, [CompactFeatures(level, table)], quiet)
        except CodecError:
            return 0.0
        return 0.0 if tally.spoilt else float(np.mean([outcome.agreement for outcome in tally.outcomes]))

    return Tuned(table, spread_levels(agreement, low=SEARCHED[0], high=SEARCHED[1], count=LEVELS))


def table_rates(
    whole: Whole, part: Part, by: Tuned, evaluated: Sequence[Sample], consecutive: Sequence[Sample], step: Step
) -> Measured:
    """Rows of "compact" over `evaluated`, and of "temporal" over `consecutive` frames, () for none.

    A video's frames are other content than the mix that everything else is measured on. So that the two codecs can
    be compared, "compact" runs on the video too, and what "temporal" keeps less (or more) than it there is taken off
    (or added to) its fidelity here. `agreement`, bytes and metrics of a row are those of the frames it ran on.
    Raises CodecError if nothing can be coded, InferenceError if the head fails.
    """
    stills = coder_rates(whole, part, evaluated, _compact(by), slice_of(step, 0, 2))
    moving = Measured()
    if consecutive:
        coders = [*_compact(by), *(TemporalFeatures(level, by.table) for level in by.levels)]
        moving = coder_rates(whole, part, consecutive, coders, slice_of(step, 1, 2))
    anchors = {row.level: row for row in moving.rows if row.codec == "compact"}
    here = {row.level: row for row in stills.rows}
    for row in moving.rows:
        if row.codec != "compact" and row.level in here and row.level in anchors:
            stills.rows.append(_moved(row, anchors[row.level], here[row.level]))
            for name in (f"encode {row.point}", f"decode {row.point}"):
                stills.times[name] = moving.times[name]
    stills.spoilt.extend(moving.spoilt)
    step(1.0)
    return stills


def _compact(by: Tuned) -> list[FeatureCoder]:
    return [CompactFeatures(level, by.table) for level in by.levels]


def _moved(row: RateRow, anchor: RateRow, here: RateRow) -> RateRow:
    fidelity = here.fidelity + row.fidelity - anchor.fidelity
    return row.model_copy(update={"fidelity": min(max(fidelity, 0.0), 1.0)})
