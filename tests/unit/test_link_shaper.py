"""The link's clockwork, with time passed in as numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.lab.link.shaper import NEVER_NS, Shaper
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage

MS = 1_000_000
S = 1_000_000_000


def link(*steps: Step, outages: tuple[Outage, ...] = (), loop: bool = False, period_s: float = 1000) -> LinkTrace:
    return LinkTrace("test", steps, period_s, loop=loop, outages=outages)


def begun(trace: LinkTrace, *, queue_bytes: int = 100_000) -> Shaper:
    shaper = Shaper(trace, queue_bytes=queue_bytes)
    shaper.begin(0)
    return shaper


def test_a_piece_takes_its_size_over_the_rate_plus_the_delay() -> None:
    shaper = begun(link(Step(0, 8e6, 20)))
    (cell,) = shaper.take(1000, now_ns=5 * S)
    assert cell.size_bytes == 1000
    assert cell.finish_ns == pytest.approx(5 * S + 1 * MS, abs=10)
    assert cell.exit_ns == pytest.approx(5 * S + 21 * MS, abs=10)


def test_what_comes_second_waits_for_the_first() -> None:
    shaper = begun(link(Step(0, 8e6, 20)))
    shaper.take(10_000, now_ns=0)
    cells = shaper.take(10_000, now_ns=1 * MS)
    assert cells[-1].exit_ns == pytest.approx(40 * MS, abs=100)
    assert shaper.queued_bytes(10 * MS) == pytest.approx(10_000, abs=1448)
    assert shaper.queued_bytes(20 * MS) == 0


def test_capacity_that_nobody_asked_for_is_lost() -> None:
    shaper = begun(link(Step(0, 8e6, 0)))
    shaper.take(1000, now_ns=0)
    assert shaper.take(1000, now_ns=1 * S)[-1].exit_ns == pytest.approx(1 * S + 1 * MS, abs=10)


def test_the_rate_changes_in_the_middle_of_a_piece() -> None:
    shaper = begun(link(Step(0, 8000, 0), Step(1, 80_000, 0)))
    (cell,) = shaper.take(1400, now_ns=0)
    assert cell.exit_ns == pytest.approx(1 * S + 40 * MS, abs=10), (
        "1000 bytes in the first second, 400 at tenfold rate"
    )


def test_nothing_leaves_or_lands_in_an_outage() -> None:
    shaper = begun(link(Step(0, 8e6, 50), outages=(Outage(1, 2),)))
    (early,) = shaper.take(1000, now_ns=970 * MS)  # leaves before the outage, would land in it
    (late,) = shaper.take(1000, now_ns=1500 * MS)
    assert early.exit_ns == 3 * S
    assert late.exit_ns == pytest.approx(3 * S + 51 * MS, abs=10)


def test_a_link_without_capacity_keeps_its_queue_for_ever() -> None:
    for loop in (False, True):
        shaper = begun(link(Step(0, 0, 5), loop=loop, period_s=1))
        assert {cell.exit_ns for cell in shaper.take(5000, now_ns=0)} == {NEVER_NS}
        assert shaper.queued_bytes(10**6 * S) == 5000
        assert shaper.room_at_ns(100_000, now_ns=0) == NEVER_NS
        assert shaper.follow(now_ns=S).exit_ns == NEVER_NS


def test_room_comes_when_enough_was_sent() -> None:
    shaper = begun(link(Step(0, 8e6, 20)), queue_bytes=10_000)
    shaper.take(10_000, now_ns=0)
    assert shaper.room_bytes(0) == 0
    at_ns = shaper.room_at_ns(4000, now_ns=0)
    assert at_ns == pytest.approx(4 * MS, abs=1.5 * MS) and shaper.room_bytes(at_ns) >= 4000
    assert shaper.room_at_ns(4000, now_ns=at_ns) == at_ns
    assert shaper.room_at_ns(10**9, now_ns=0) == pytest.approx(10 * MS, abs=100)


def test_before_it_begins_the_first_second_holds() -> None:
    shaper = Shaper(link(Step(0, 0, 10), Step(0.5, 16e6, 10), Step(1, 1e9, 10)), queue_bytes=10_000)
    assert shaper.take(1000, now_ns=70 * S)[-1].exit_ns == 70 * S + 1 * MS + 10 * MS
    shaper.begin(100 * S)
    assert shaper.take(1000, now_ns=100 * S)[-1].finish_ns == pytest.approx(100.5 * S + 0.5 * MS, abs=100)


def test_busy_time_counts_waiting_and_outages_but_not_idling() -> None:
    shaper = begun(link(Step(0, 8e6, 0), outages=(Outage(2, 1),)))
    shaper.take(100_000, now_ns=0)
    assert shaper.busy_ns(50 * MS) == pytest.approx(50 * MS, abs=100)
    assert shaper.busy_ns(1 * S) == pytest.approx(100 * MS, abs=100)
    shaper.take(1000, now_ns=2500 * MS)
    assert shaper.busy_ns(10 * S) == pytest.approx(601 * MS, abs=100)


def test_clearing_forgets_the_queue() -> None:
    shaper = begun(link(Step(0, 8e6, 20)))
    shaper.take(100_000, now_ns=0)
    shaper.clear(10 * MS)
    assert shaper.queued_bytes(10 * MS) == 0
    assert shaper.busy_ns(1 * S) == pytest.approx(10 * MS, abs=100)
    assert shaper.take(1000, now_ns=10 * MS)[0].exit_ns == pytest.approx(31 * MS, abs=10)


def test_jitter_is_seeded_bounded_and_keeps_the_order() -> None:
    def exits(seed: int) -> list[int]:
        shaper = Shaper(link(Step(0, 8e6, 20, 5)), queue_bytes=10**9, seed=seed)
        shaper.begin(0)
        return [shaper.take(1000, now_ns=n * 10 * MS)[0].exit_ns - n * 10 * MS for n in range(200)]

    assert exits(1) == exits(1) != exits(2)
    assert min(exits(1)) >= 21 * MS - 10 and max(exits(1)) <= 36 * MS + 10
    assert max(exits(1)) - min(exits(1)) > 5 * MS


step_lists = st.lists(
    st.tuples(st.floats(0.001, 0.4), st.sampled_from([0.0, 1e4, 3e5, 5e6, 4e7]), st.floats(0, 50)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150)
@given(
    steps=step_lists,
    loop=st.booleans(),
    outages=st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 1)), max_size=2),
    offers=st.lists(st.tuples(st.integers(0, 60 * MS), st.integers(1, 9000)), min_size=1, max_size=25),
)
def test_no_trace_lets_more_through_than_its_capacity_and_order_is_kept(
    steps: list[tuple[float, float, float]],
    loop: bool,
    outages: list[tuple[float, float]],
    offers: list[tuple[int, int]],
) -> None:
    starts = [sum(length for length, *_ in steps[:n]) for n in range(len(steps) + 1)]
    rows = tuple(Step(t, rate, delay) for t, (_, rate, delay) in zip(starts, steps, strict=False))
    trace = LinkTrace("any", rows, starts[-1], loop=loop).with_outages([Outage(*each) for each in outages])
    shaper = begun(trace, queue_bytes=10**9)
    now_ns, cells, taken = 0, [], 0
    for wait_ns, size in offers:
        now_ns += wait_ns
        part = shaper.take(size, now_ns=now_ns)
        assert sum(cell.size_bytes for cell in part) == size
        cells += part
        taken += size
    assert [c.exit_ns for c in cells] == sorted(c.exit_ns for c in cells)
    assert all(cell.finish_ns <= cell.exit_ns for cell in cells)
    sent = 0
    for cell in cells:
        if cell.finish_ns == NEVER_NS:
            break
        sent += cell.size_bytes
        assert sent <= trace.capacity_bytes(0, cell.finish_ns / 1e9) * (1 + 1e-6) + 1
        assert trace.outage_at(cell.exit_ns / 1e9 + 1e-6) is None or trace.rate_bps(cell.finish_ns / 1e9 - 1e-6) > 0
    assert shaper.queued_bytes(NEVER_NS - 1) == taken - sent


@given(start=st.floats(0, 50), size=st.integers(1, 10**6))
def test_finish_is_the_inverse_of_capacity(start: float, size: int) -> None:
    trace = link(
        Step(0, 1e6), Step(0.3, 0), Step(0.7, 9e6), outages=(Outage(3, 2), Outage(4, 4)), loop=True, period_s=1
    )
    finish = trace.finish_s(start, size)
    assert trace.capacity_bytes(start, finish) == pytest.approx(size, rel=1e-6)
    assert finish < math.inf


def test_landing_is_capacity_one_delay_later() -> None:
    trace = link(Step(0, 8e6, 100), Step(2, 0, 100))
    assert trace.landing_bytes(0.1, 1.1) == pytest.approx(1e6)
    assert trace.landing_bytes(2.0, 3.0) == pytest.approx(1e5)


def test_what_would_land_in_an_outage_lands_after_it() -> None:
    trace = link(Step(0, 8e6, 100), outages=(Outage(1, 1),))
    assert trace.landing_bytes(0.1, 1.0) == pytest.approx(0.9e6)
    assert trace.landing_bytes(1.0, 2.0) == 0
    assert trace.landing_bytes(2.0, 2.05) == pytest.approx(1e5), "the delay line's content, at once"
