"""The Bjøntegaard rate: known answers, its algebra, and what it refuses to compare."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splitmesh.plan.bd_rate import MORE, RatePoint, bd_rate, bytes_at, frontier


def curve(*pairs: tuple[float, float]) -> list[RatePoint]:
    return [RatePoint(size, fidelity) for size, fidelity in pairs]


points = st.builds(RatePoint, st.floats(10, 1e6), st.floats(0, 1))
curves = st.lists(points, min_size=1, max_size=12)
wide = st.builds(
    lambda inner, cheapest, dearest: [RatePoint(cheapest, 0.7), *inner, RatePoint(dearest, 1.0)],
    st.lists(st.builds(RatePoint, st.floats(10, 1e6), st.floats(0, 0.98)), max_size=10),
    st.floats(1, 9),
    st.floats(1e6, 1e7),
)
"""Curves that have something to compare, the two ends at least."""
LINE = curve((100, 0.80), (200, 0.90), (400, 1.00))


def test_half_the_bytes_at_every_fidelity_is_minus_fifty_percent() -> None:
    half = [RatePoint(p.bytes / 2, p.fidelity) for p in LINE]
    found = bd_rate(half, LINE)
    assert found.percent == pytest.approx(-50)
    assert found.over == pytest.approx((0.85, 0.99))
    assert bd_rate(LINE, half).percent == pytest.approx(100)


def test_the_mean_is_of_logarithms_over_the_common_fidelities() -> None:
    """Two curves, straight in ln bytes, that cross in the middle of 0.85 … 0.95, which is all they have in common."""
    flat = curve((math.exp(2.5), 0.85), (math.exp(3.5), 0.95))
    steep = curve((math.e, 0.80), (math.e**3, 0.90), (math.e**5, 1.00))
    assert bd_rate(flat, steep).percent == pytest.approx(0, abs=1e-9)
    assert bd_rate(flat, steep, high=0.90).percent == pytest.approx(100 * math.expm1(0.25))
    assert bd_rate(flat, steep, low=0.90).percent == pytest.approx(100 * math.expm1(-0.25))


@given(curves)
@example([RatePoint(10, 0), RatePoint(11, 5e-324), RatePoint(12, 1)])
@example([RatePoint(10, 0), RatePoint(11, 4e-107), RatePoint(12, 1)])
def test_a_curve_against_itself_is_zero_or_nothing(mine: Sequence[RatePoint]) -> None:
    found = bd_rate(mine, mine)
    assert found.percent in (None, pytest.approx(0, abs=1e-9))
    assert (found.percent is None) == bool(found.reason)


@given(wide, wide)
def test_swapped_curves_undo_each_other(a: Sequence[RatePoint], b: Sequence[RatePoint]) -> None:
    there, back = bd_rate(a, b), bd_rate(b, a)
    assert there.percent is not None and back.percent is not None
    assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)


@given(wide, wide, st.floats(0.01, 100))
def test_a_factor_on_all_bytes_is_a_factor_on_the_rate(
    a: Sequence[RatePoint], b: Sequence[RatePoint], factor: float
) -> None:
    plain = bd_rate(a, b)
    assert plain.percent is not None
    scaled = bd_rate([RatePoint(p.bytes * factor, p.fidelity) for p in a], b)
    assert scaled.percent is not None
    assert 1 + scaled.percent / 100 == pytest.approx(factor * (1 + plain.percent / 100))


@given(curves)
def test_the_frontier_rises_and_nothing_lies_above_it(mine: Sequence[RatePoint]) -> None:
    kept = frontier(mine)
    assert all(a.bytes < b.bytes and a.fidelity < b.fidelity for a, b in itertools.pairwise(kept))
    assert all(any(k.bytes <= p.bytes and k.fidelity >= p.fidelity - MORE for k in kept) for p in mine)
    assert set(kept) <= set(mine)


def test_levels_that_nobody_would_choose_change_nothing() -> None:
    noisy = [*LINE, RatePoint(300, 0.85), RatePoint(1000, 0.99)]
    assert bd_rate(noisy, LINE).percent == pytest.approx(0)


@pytest.mark.parametrize(
    ("mine", "reason"),
    [
        (LINE[:1], "two levels"),
        (curve((100, 0.9), (200, 0.9)), "two levels"),
        ([], "two levels"),
        (curve((100, 0.2), (200, 0.6)), "0.200 … 0.600 here, 0.800 … 1.000 there"),
        (curve((100, 0.8), (200, 0.8501)), "too little in common"),
        (curve((100, 0.992), (200, 0.999)), "too little in common"),
    ],
)
def test_curves_that_share_no_fidelity_are_not_compared(mine: Sequence[RatePoint], reason: str) -> None:
    found = bd_rate(mine, LINE)
    assert found.percent is None and found.over is None and reason in found.reason


@pytest.mark.parametrize(
    ("fidelity", "size"), [(0.80, 100), (0.90, 200), (1.00, 400), (0.5, 100), (0.85, math.sqrt(2) * 100)]
)
def test_bytes_at_a_fidelity(fidelity: float, size: float) -> None:
    assert bytes_at(LINE, fidelity) == pytest.approx(size)


def test_no_bytes_reach_what_no_level_keeps() -> None:
    assert bytes_at(LINE[:2], 0.95) is None
    assert bytes_at([], 0.5) is None
