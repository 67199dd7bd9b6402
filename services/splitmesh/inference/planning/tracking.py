"""Owns measuring how carrying an answer forward decays, on the clips whose frames follow each other."""

from __future__ import annotations

from splitmesh.frames.fidelity import counts_objects
from splitmesh.inference.planning.stages import Step, each
from splitmesh.inference.planning.whole import Whole
from splitmesh.plan.calibrate import TrackSample, tracking_samples
from splitmesh.plan.footage import Footage
from splitmesh.plan.thumbnail import luma_thumbnail

FEWEST_IN_A_ROW = 20
"""The oldest answers that are judged are 16 frames old."""


def tracking(whole: Whole, footage: Footage, frames: int, step: Step) -> list[TrackSample]:
    """Samples of all clips together; at most about `frames` frames in all, each clip's first ones.

    Stills follow nothing, and answers without objects are not tracked: neither gives any.
    """
    has_objects = counts_objects(whole.kind) or whole.kind == "classifier"
    sequences = footage.sequences if has_objects else ()
    found: list[TrackSample] = []
    for interval_ms, row in each(sequences, step):
        some = row[: max(FEWEST_IN_A_ROW, frames // len(sequences))]
        found += tracking_samples(
            [whole.reference(sample) for sample in some],
            [luma_thumbnail(sample.picture) for sample in some],
            interval_ns=round(interval_ms * 1e6),
            kind=whole.kind,
        )
    return found
