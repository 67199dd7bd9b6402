"""Owns fitting the calibration tables of cuts to real frames. Measures no rate and judges no answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.temporal.fit import fit_temporal_model
from splitmesh.inference.planning.parity import Part
from splitmesh.inference.planning.relevance import relevant
from splitmesh.inference.planning.sensitivity import F64, sensitivity
from splitmesh.inference.planning.sensitivity_frequencies import FEWEST_FRAMES, frequency_sensitivity
from splitmesh.inference.planning.stages import Step, each, quiet, slice_of
from splitmesh.inference.planning.whole import Whole
from splitmesh.plan.cuts.extract import Arrays
from splitmesh.plan.footage import Footage, Sample, evenly
from splitmesh.plan.manifest_kinds import ClassifierPostprocess

FIT_FRAMES = 48
"""More teach little: a table has tens of thousands of numbers, a frame hundreds of thousands of elements."""
FEWEST = 8
"""With fewer frames their mirror images are fitted to as well."""
SCREENING_FRAMES = 6
SCREENING_RUNS = 200
"""Of a tail, to find out what its answer feels of frequencies: enough for planes of 28 × 28, and larger ones lie too
early for it to matter."""
ELEMENTS = 3_000_000
"""Of one cut's tensors that a table is fitted to; the frames of a large cut are fewer, as they teach more each."""


def frames_to_fit(footage: Footage) -> list[Sample]:
    """The frames that tables are fitted to, () without any; none of them is evaluated on."""
    frames = evenly(footage.fit, FIT_FRAMES)
    return [*frames, *map(_mirrored, frames)] if len(frames) < FEWEST else frames


def fit_notes(footage: Footage) -> tuple[str, ...]:
    """What a user should know of the tables that such footage gives."""
    count = len(footage.fit)
    if count >= FEWEST:
        return ()
    if not count:
        return ("no frame is left to fit calibration tables to: the compact codecs are not offered",)
    return (f"calibration tables are fitted to only {count} frames and their mirror images: more make codecs better",)


def fit_cut(
    whole: Whole,
    part: Part,
    samples: Sequence[Sample],
    rows: Sequence[Sequence[Sample]],
    step: Step,
    *,
    runs: int,
) -> CompactTable:
    """The table of a cut, its components by what noise in them costs the answer.

    samples: at least one. rows: frames that follow each other; without any the table is for frames alone. runs: of
    the tail, that may be spent on finding that out; where outputs do not tell, all channels of a tensor count alike.
    Raises CodecError for tensors that no table can hold, InferenceError if a part fails.
    """
    features = _features(whole, part, evenly(samples, _most(part)), slice_of(step, 0, 3))
    metrics = _metrics(whole, part, features, slice_of(step, 1, 3), runs)
    table = fit_table(features, metrics, _by_frequency(whole, part, features, runs))
    if not rows:
        return table
    most = max(2, _most(part) // len(rows))
    sequences = [_features(whole, part, row[:most], quiet) for row in each(rows, slice_of(step, 2, 3))]
    return replace(table, temporal_model=fit_temporal_model(table, sequences))


def _metrics(whole: Whole, part: Part, features: Arrays, step: Step, runs: int) -> dict[str, F64] | None:
    """What noise in each channel costs; None where outputs do not tell."""
    matters = relevant(whole.manifest.postprocess)
    return None if matters is None else sensitivity(part.tail, matters, features, runs=runs, step=step)


def _by_frequency(
    whole: Whole, part: Part, features: Arrays, runs: int, *, frames: int = FEWEST_FRAMES
) -> dict[str, F64]:
    """What noise at each spatial frequency costs an answer of the picture as a whole; {} for answers with places.

    Measured on detectors, weighed frequencies save nothing: boxes need what is fine as much as what is coarse. And
    planes of positions can follow what moves.
    """
    matters = relevant(whole.manifest.postprocess)
    if matters is None or not _is_of_the_whole(whole):
        return {}
    return frequency_sensitivity(part.tail, matters, features, runs=runs, fewest=frames)


def fit_quickly(whole: Whole, part: Part, samples: Sequence[Sample]) -> CompactTable:
    """A rough table: few frames, every channel as if it mattered alike. Raises as `fit_cut` does."""
    frames = max(SCREENING_FRAMES, min(FIT_FRAMES, telling(part))) if _is_of_the_whole(whole) else SCREENING_FRAMES
    features = _features(whole, part, evenly(samples, frames), quiet)
    return fit_table(features, None, _by_frequency(whole, part, features, SCREENING_RUNS, frames=1))


def telling(part: Part) -> int:
    """Frames that tell channels apart (`channel_axis`), if those come first."""
    return max(-(-4 * shape[1] ** 2 // math.prod(shape)) for shape in part.shapes.values())


def _is_of_the_whole(whole: Whole) -> bool:
    """Whether the answer is of the picture as a whole, and no part of it of a place."""
    return isinstance(whole.manifest.postprocess, ClassifierPostprocess)


def _features(whole: Whole, part: Part, samples: Sequence[Sample], step: Step) -> Arrays:
    """Wire name → (N, …) float32."""
    held = [part.head.run(whole.inputs(sample.picture)) for sample in each(samples, step)]
    return {name: np.concatenate([tensors[name] for tensors in held]) for name in part.shapes}


def _most(part: Part) -> int:
    """Frames that the tables of a cut are fitted to at most."""
    return max(FEWEST, ELEMENTS // sum(map(math.prod, part.shapes.values())))


def rows_to_fit(footage: Footage) -> list[list[Sample]]:
    """Frames that follow each other, of each video; none of them is evaluated on."""
    rows = [[sample for sample in row if sample.for_fit] for _, row in footage.sequences]
    return [row for row in rows if len(row) > 1]


def _mirrored(sample: Sample) -> Sample:
    return replace(sample, picture=np.ascontiguousarray(sample.picture[:, ::-1]), where=f"{sample.where}, mirrored")
