"""Rates of codecs with a memory beside those without, and the frames that both are measured on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from plan_values import row

from splitmesh.inference.planning.calibration import ROW_FRAMES, ROWS, SHORTEST_ROW, frames_in_a_row
from splitmesh.inference.planning.rates import Measured
from splitmesh.inference.planning.tabled import beside, smoothed
from splitmesh.inference.planning.tables import FEWEST, FIT_FRAMES, fit_notes, frames_to_fit, rows_to_fit
from splitmesh.plan.bundle.schema import PartTiming
from splitmesh.plan.footage import Clip, Footage


def clip(frames: int, interval_ms: float | None, start: int = 0) -> Clip:
    shades = [np.full((8, 8, 3), (start + i) % 256, np.uint8) for i in range(frames)]
    return Clip(tuple(shades), interval_ms)


def measured(*rows: object) -> Measured:
    found = Measured(rows=list(rows))  # type: ignore[arg-type]
    for each in found.rows:
        for step in ("encode", "decode"):
            found.times[f"{step} {each.point}"] = PartTiming(p50_ms=1.0, p95_ms=1.0, runs=1)
    return found


def test_what_a_stateless_codec_keeps_more_on_the_video_is_taken_off() -> None:
    stills = measured(row("c", "compact", 90, 4000.0, 0.96), row("c", "compact", 80, 2000.0, 0.90))
    moving = measured(
        row("c", "compact", 90, 3000.0, 0.99),
        row("c", "compact", 80, 1500.0, 0.95),
        row("c", "temporal", 90, 600.0, 0.98),
        row("c", "temporal", 80, 300.0, 0.93),
        row("c", "temporal", 70, 100.0, 0.80),
    )
    found = beside(stills, moving, anchor="compact")
    assert [(each.codec, each.level) for each in found.rows] == [("temporal", 90), ("temporal", 80), ("temporal", 70)]
    assert [each.fidelity for each in found.rows] == pytest.approx([0.95, 0.88, 0.76])
    assert [each.bytes_mean for each in found.rows] == [600.0, 300.0, 100.0]
    assert found.times.keys() == {f"{step} {each.point}" for each in found.rows for step in ("encode", "decode")}


def test_levels_of_another_kind_are_moved_by_the_mean() -> None:
    stills = measured(row("", "jpeg", 95, 1.0, 0.90), row("", "jpeg", 50, 1.0, 0.80))
    moving = measured(row("", "jpeg", 95, 1.0, 0.95), row("", "jpeg", 50, 1.0, 0.83), row("", "h264", 20, 1.0, 0.99))
    (found,) = beside(stills, moving, anchor="jpeg").rows
    assert found.fidelity == pytest.approx(0.95)


def test_a_finer_level_never_keeps_less() -> None:
    rows = [
        row("c", "compact", 90, 4.0, 0.94),
        row("c", "compact", 80, 2.0, 0.96),
        row("c", "temporal", 80, 1.0, 0.9),
    ]
    found = {(each.codec, each.level): each.fidelity for each in smoothed(rows)}
    assert found == {("compact", 80): 0.95, ("compact", 90): 0.95, ("temporal", 80): 0.9}


def test_frames_in_a_row_are_of_the_longest_videos_and_none_is_fitted_to() -> None:
    footage = Footage((clip(30, 40.0), clip(90, None), clip(60, 40.0, 60), clip(90, 40.0, 120)))
    chosen = frames_in_a_row(footage, 10_000)
    assert len(chosen) == ROWS * ROW_FRAMES and not any(sample.for_fit for sample in chosen)
    assert {sample.clip for sample in chosen} == {3, 4}
    follows = [after.follows(before) for before, after in zip([None, *chosen], chosen, strict=False)]
    assert follows.count(False) == ROWS and not follows[0]
    assert len(frames_in_a_row(footage, 20)) == 20
    assert {sample.clip for sample in frames_in_a_row(footage, 10_000, videos=3)} == {1, 3, 4}
    one = Footage((clip(300, 40.0),))
    assert len(frames_in_a_row(one, 10_000)) == ROW_FRAMES
    assert len(frames_in_a_row(one, 10_000, videos=4 * ROWS)) == 4 * ROW_FRAMES, "longer rows of fewer videos"
    assert len(frames_in_a_row(one, 50, videos=4 * ROWS)) == 50
    assert frames_in_a_row(footage, SHORTEST_ROW) == [] and frames_in_a_row(Footage(), 100) == []


def test_tables_are_fitted_to_what_is_not_evaluated() -> None:
    footage = Footage((clip(90, 40.0), clip(30, None, 100)))
    samples = frames_to_fit(footage)
    assert 30 < len(samples) <= FIT_FRAMES and all(sample.for_fit for sample in samples)
    assert fit_notes(footage) == ()
    (only,) = rows_to_fit(footage)
    assert {sample.clip for sample in only} == {1} and len(only) == 30 and all(sample.for_fit for sample in only)
    assert [after.follows(before) for before, after in itertools.pairwise(only)] == [True] * 29


@pytest.mark.parametrize(("frames", "fitted"), [(2, 0), (9, 6), (3 * FEWEST, FEWEST)])
def test_few_frames_are_mirrored(frames: int, fitted: int) -> None:
    samples = frames_to_fit(Footage((clip(frames, None),)))
    assert len(samples) == fitted
    assert sum("mirrored" in sample.where for sample in samples) == (fitted // 2 if fitted < FEWEST else 0)
