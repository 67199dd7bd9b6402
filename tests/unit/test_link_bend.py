"""Bends of a link, with time passed in as numbers: what it carries while it is bent, and before and after that."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.errors import SettingsError
from splitmesh.lab.link.bend import Bend, bent, parse_command
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage


def trace(*, loop: bool = True, outages: tuple[Outage, ...] = ()) -> LinkTrace:
    return LinkTrace("t", (Step(0.0, 8e6), Step(4.0, 2e6)), 10.0, loop=loop, outages=outages)


def test_a_bend_changes_the_rate_while_it_lasts_and_nothing_else() -> None:
    link = bent(trace(), Bend(3.0, 2.0, 0.1))
    assert [link.rate_bps(t) for t in (2.9, 3.0, 4.5, 5.0, 13.0)] == [8e6, 8e5, 2e5, 2e6, 8e6]
    assert link.delay_ms(3.5) == trace().delay_ms(3.5)
    assert link.mean_bps(0.0, 10.0) == pytest.approx((3 * 8e6 + 8e5 + 2e5 + 5 * 2e6) / 10)


def test_the_newer_bend_takes_the_place_of_what_is_left_of_an_older_one() -> None:
    link = bent(bent(trace(), Bend(1.0, 9.0, 0.1)), Bend(2.0, 1.0, 2.0))
    assert link.bends == (Bend(1.0, 1.0, 0.1), Bend(2.0, 1.0, 2.0))
    assert [link.rate_bps(t) for t in (1.5, 2.5, 3.5)] == [8e5, 16e6, 8e6]
    assert bent(link, Bend(0.0, 3.0, 0.5)).bends == (Bend(0.0, 3.0, 0.5),)


def test_an_outage_stays_one_in_a_bend() -> None:
    link = bent(trace(outages=(Outage(2.0, 1.0),)), Bend(1.0, 3.0, 0.5))
    assert [link.rate_bps(t) for t in (1.5, 2.5, 3.5)] == [4e6, 0.0, 4e6]
    assert link.finish_s(1.9, 100_000) == pytest.approx(3.1)


@settings(max_examples=100, deadline=None)
@given(
    start=st.floats(0, 40),
    size=st.integers(1, 20_000_000),
    bends=st.lists(st.tuples(st.floats(0, 60), st.floats(1, 30), st.floats(0.01, 10)), max_size=4),
    loop=st.booleans(),
)
def test_what_finishes_took_exactly_the_capacity(
    start: float, size: int, bends: list[tuple[float, float, float]], loop: bool
) -> None:
    link = trace(loop=loop, outages=(Outage(12.0, 2.0),))
    for at, length, factor in sorted(bends):
        link = bent(link, Bend(at, length, factor))
    end = link.finish_s(start, size)
    assert start < end < math.inf
    assert link.capacity_bytes(start, end) == pytest.approx(size, abs=2.0, rel=1e-6)
    pieces = [piece for piece, _ in zip(link.pieces(start), range(50), strict=False)]
    assert pieces[0].start_s == start and all(a.end_s == b.start_s for a, b in pairwise(pieces))


def test_commands_are_understood_or_refused_by_their_rule() -> None:
    assert parse_command("bend 0.1 10\n") == (0.1, 10.0)
    for wrong in (
        "",
        "bend",
        "bend 0.1",
        "unbend 0.1 10",
        "bend 0 10",
        "bend 11 10",
        "bend 1 0",
        "bend nan 9",
        "bend 1 x",
    ):
        with pytest.raises(SettingsError) as refused:
            parse_command(wrong)
        assert refused.value.key == "commands"
