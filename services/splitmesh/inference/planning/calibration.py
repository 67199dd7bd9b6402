"""Owns calibrating the ways to send a frame: a table and levels for each kept cut, then rates of every codec.

One cut is loaded at a time. Tables are fitted to frames that nothing is measured on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from splitmesh.codec.coders import JPEG, PictureKind
from splitmesh.codec.registry import CODECS
from splitmesh.errors import CodecError, InferenceError
from splitmesh.inference.planning.examine import Kept
from splitmesh.inference.planning.parity import Part, open_part
from splitmesh.inference.planning.rates import Measured, coder_rates, cut_rates, picture_coders
from splitmesh.inference.planning.stages import Step, slice_of
from splitmesh.inference.planning.tabled import (
    MOST_ELEMENTS,
    SEARCH_FRAMES,
    Tuned,
    beside,
    smoothed,
    table_rates,
    tuned,
)
from splitmesh.inference.planning.tables import fit_cut, fit_notes, frames_to_fit, rows_to_fit
from splitmesh.inference.planning.whole import Whole
from splitmesh.plan.bundle.draft import BundleDraft
from splitmesh.plan.footage import Footage, Sample

ROW_FRAMES = 24
"""Frames in a row that codecs with a memory are measured on, of each video."""
ROWS = 2
"""Videos, unless there is more time."""
SHORTEST_ROW = 8


@dataclass
class Calibration:
    """What is known of each way to send a frame, as it becomes known."""

    draft: BundleDraft
    whole: Whole
    providers: tuple[str, ...]
    footage: Footage
    evaluated: Sequence[Sample]
    consecutive: Sequence[Sample]
    """Frames in a row, of one video after the other; () where there are none, or no time for them."""
    runs: int
    """Of each tail, that may be spent on finding out what its answer feels."""
    measured: Measured = field(default_factory=Measured)
    tuned: dict[str, Tuned] = field(default_factory=dict)
    """By cut: those with a table."""
    notes: list[str] = field(default_factory=list)

    def run(self, kept: Sequence[Kept], pictures: Sequence[PictureKind], fit: Step, calibrate: Step) -> None:
        """Tables go to the draft, rows and times to `measured`. Raises InferenceError if a part fails on a frame."""
        self.notes += fit_notes(self.footage) if kept else ()
        for index, each in enumerate(kept):
            part = open_part(*each.located, threads=self.whole.session.threads, providers=self.providers)
            self._fit(part, slice_of(fit, index, len(kept)))
            self._measure(part, slice_of(calibrate, index, len(kept) + 1))
        fit(1.0)
        self._pictures(pictures, slice_of(calibrate, len(kept), len(kept) + 1))
        self.notes += self.measured.spoilt

    def _fit(self, part: Part, step: Step) -> None:
        samples = frames_to_fit(self.footage)
        if not samples or sum(map(math.prod, part.shapes.values())) > MOST_ELEMENTS:
            return
        try:
            table = fit_cut(self.whole, part, samples, rows_to_fit(self.footage), step, runs=self.runs)
            frames = max(SEARCH_FRAMES, len(self.evaluated) // 4)
            self.tuned[part.name] = tuned(self.whole, part, table, self.evaluated, frames=frames)
        except (CodecError, InferenceError) as exc:  # of tensors moved out of what the tail is used to, too
            self.notes.append(f"{part.name} has no calibration table: {exc.message}")
        else:
            self.draft.add_table(part.name, table)

    def _measure(self, part: Part, step: Step) -> None:
        self.measured.extend(cut_rates(self.whole, part, self.evaluated, slice_of(step, 0, 2)))
        if part.name in self.tuned:
            by, step = self.tuned[part.name], slice_of(step, 1, 2)
            self.measured.extend(table_rates(self.whole, part, by, self.evaluated, self.consecutive, step))

    def _pictures(self, kinds: Sequence[PictureKind], step: Step) -> None:
        """Those with a memory are measured on the videos, beside JPEG."""
        alone = [kind for kind in kinds if not CODECS[kind.codec].stateful]
        coders = [coder for kind in alone for coder in picture_coders(self.whole, kind)]
        found = coder_rates(self.whole, None, self.evaluated, coders, slice_of(step, 0, 2))
        all_kinds = Measured()
        all_kinds.extend(found)
        streams = [kind for kind in kinds if CODECS[kind.codec].stateful]
        if streams and self.consecutive and JPEG in kinds:
            coders = [coder for kind in (JPEG, *streams) for coder in picture_coders(self.whole, kind)]
            moving = coder_rates(self.whole, None, self.consecutive, coders, slice_of(step, 1, 2))
            all_kinds.extend(beside(found, moving, anchor="jpeg"))
        all_kinds.rows[:] = smoothed(all_kinds.rows)
        self.measured.extend(all_kinds)
        step(1.0)


def frames_in_a_row(footage: Footage, affordable: int, *, videos: int = ROWS) -> list[Sample]:
    """At most `affordable` frames to measure codecs with a memory on: of the longest `videos`, none fitted to.

    Rows of `ROW_FRAMES`, or longer ones where there are fewer videos.
    """
    rows = [[sample for sample in row if not sample.for_fit] for _, row in footage.sequences]
    chosen = sorted(rows, key=len, reverse=True)[:videos]
    longest = ROW_FRAMES * max(1, videos // (ROWS * max(len(chosen), 1)))
    count = min(longest, affordable // max(len(chosen), 1))
    return [sample for row in chosen if len(row) >= SHORTEST_ROW <= count for sample in row[:count]]
