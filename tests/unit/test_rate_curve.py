"""What a codec sends and keeps between the levels that were measured, and how those levels are found."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_values import row

from splitmesh.plan.level_search import CLOSE, OCTAVES, STRIDE, WORST, spread_levels
from splitmesh.plan.rate_curve import RateCurve, rising

ROWS = [
    row("early", "temporal", 100, 3200.0, 0.99).model_copy(update={"key_bytes": 8100.0}),
    row("early", "temporal", 84, 799.0, 0.95).model_copy(update={"key_bytes": 2699.0}),
    row("early", "temporal", 92, 1599.0, 0.94).model_copy(update={"key_bytes": 4200.0}),
    row("early", "compact", 90, 7.0, 0.5),
    row("early", "temporal", 90, 7.0, 0.5, "int8"),
    row("", "h264", 20, 9000.0, 0.98),
    row("", "h264", 40, 900.0, 0.88),
]


def curve(cut: str, codec: str) -> RateCurve:
    found = RateCurve.of(ROWS, cut=cut, codec=codec)
    assert found is not None
    return found


def test_between_measured_levels_bytes_grow_by_equal_shares() -> None:
    between = curve("early", "temporal").at(88)
    assert between.payload_bytes == pytest.approx(math.sqrt(800 * 1600) - 1)
    assert between.key_bytes == pytest.approx(math.sqrt(2700 * 4201) - 1)
    assert between.fidelity == pytest.approx(0.945)  # the two that are the wrong way round count as one


@pytest.mark.parametrize(("level", "nearest"), [(0, 84), (84, 84), (100, 100), (255, 100)])
def test_outside_the_measured_levels_the_nearest_holds(level: int, nearest: int) -> None:
    temporal = curve("early", "temporal")
    assert temporal.at(level) == temporal.at(nearest) and temporal.at(level).level == nearest


def test_levels_are_found_by_what_they_keep_and_by_what_they_send() -> None:
    temporal = curve("early", "temporal")
    enough = temporal.keeping(0.97)
    assert enough is not None and enough.fidelity >= 0.97 > temporal.at(enough.level - 1).fidelity
    assert temporal.keeping(0.995) is None
    small = temporal.within(1000.0)
    assert small is not None and small.payload_bytes <= 1000.0 < temporal.at(small.level + 1).payload_bytes
    assert temporal.within(700.0) is None


def test_a_codec_whose_levels_count_downwards_is_read_so() -> None:
    stream = curve("", "h264")
    enough = stream.keeping(0.929)
    assert enough is not None and enough.level == 30 and enough.payload_bytes == pytest.approx(2846, abs=2)
    small = stream.within(3000.0)
    assert small is not None and small.level == 30


def test_without_rows_there_is_no_curve() -> None:
    assert RateCurve.of(ROWS, cut="late", codec="temporal") is None
    assert RateCurve.of([], cut="", codec="jpeg") is None


@given(st.lists(st.floats(0, 1), max_size=12))
def test_a_rising_sequence_rises_and_keeps_the_mean(values: list[float]) -> None:
    pooled = rising(values)
    assert pooled == sorted(pooled) and len(pooled) == len(values)
    assert sum(pooled) == pytest.approx(sum(values))
    assert rising(pooled) == pytest.approx(pooled)


def kept_at(level: int, *, ceiling: float = 0.985) -> float:
    """A codec that keeps 0.85 at level 70 and nearly all it can from level 96."""
    return ceiling - 0.135 * 2.0 ** ((70 - level) / 5.0)


def test_levels_spread_from_the_ceiling_to_the_worst_of_use() -> None:
    asked: list[int] = []

    def look(level: int) -> float:
        asked.append(level)
        return kept_at(level)

    levels = spread_levels(look, low=40, high=120, count=6)
    assert len(levels) == 6 and levels == tuple(sorted(levels, reverse=True))
    assert kept_at(levels[0]) >= kept_at(120) - CLOSE
    assert kept_at(levels[-1]) == pytest.approx(WORST, abs=0.03)
    gaps = [high - low for high, low in itertools.pairwise(levels)]
    assert max(gaps) - min(gaps) <= 1 and len(asked) == len(set(asked)) <= 9


def test_noise_of_a_few_frames_moves_levels_but_breaks_nothing() -> None:
    noise = {120: -0.01, 112: 0.02, 104: -0.02, 96: 0.015, 88: -0.03, 80: 0.02}
    levels = spread_levels(lambda level: kept_at(level) + noise.get(level, 0.0), low=40, high=120, count=6)
    assert 80 <= levels[0] <= 120 and 60 <= levels[-1] <= 84


@pytest.mark.parametrize("ceiling", [1.0, 0.7, 0.2])
def test_a_cut_that_never_keeps_much_still_has_levels(ceiling: float) -> None:
    levels = spread_levels(lambda level: kept_at(level, ceiling=ceiling), low=40, high=120, count=6)
    assert 2 <= len(levels) <= 6 and all(40 <= level <= 120 for level in levels)


def test_a_cut_that_any_level_keeps_has_few() -> None:
    assert spread_levels(lambda level: 1.0, low=40, high=120, count=6)[-1] == 40


def test_frames_that_a_coarse_level_happens_to_keep_do_not_hide_the_finer_ones() -> None:
    levels = spread_levels(lambda level: 0.97 if level >= 72 else 0.6, low=40, high=120, count=5)
    assert levels[0] - levels[-1] == OCTAVES * STRIDE and 66 <= levels[-1] <= 72
