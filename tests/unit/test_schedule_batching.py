"""Batches: how large, how long held, and that the rule finds out for itself whether they pay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.schedule.batching import (
    MEMORY_NS,
    Batch,
    Batcher,
    BatchTimes,
    best_size,
    pays_ns,
    worthwhile_size,
)

MS = 1_000_000
CPU = {1: 10 * MS, 2: 20 * MS, 4: 40 * MS, 8: 80 * MS}
GPU = {1: 10 * MS, 2: 11 * MS, 4: 13 * MS, 8: 17 * MS}
FAR = 10_000 * MS


def in_ms(curve: list[int]) -> list[float]:
    return [taken / MS for taken in curve]


def test_warm_up_is_the_first_word_and_is_filled_in_between_and_beyond() -> None:
    times = BatchTimes({1: 10 * MS, 2: 12 * MS, 4: 20 * MS}, most=6)
    assert in_ms(times.curve_ns(0)) == [10, 12, 16, 20, 25, 30]


def test_it_follows_what_runs_take_and_scales_what_did_not_run() -> None:
    times = BatchTimes(GPU, most=8)
    for moment in range(100):
        times.observe(2, 22 * MS, moment)
    assert in_ms(times.curve_ns(100)) == [10, 22, 24, 26, 28, 30, 32, 34]
    for moment in range(100):
        times.observe(4, 13 * MS, moment)
    assert in_ms(times.curve_ns(100)) == [10, 22, 24, 24, 24, 24, 24, 24]  # never falls


def test_it_is_the_95th_percentile_of_the_latest() -> None:
    times = BatchTimes({1: MS}, most=1, window=20)
    for moment in range(20):
        times.observe(1, (moment + 1) * MS, moment)
    assert in_ms(times.curve_ns(20)) == [20]
    for moment in range(19):
        times.observe(1, 2 * MS, moment)
    times.observe(1, 50 * MS, 20)
    times.observe(1, 2 * MS, 21)
    assert in_ms(times.curve_ns(21)) == [50]
    for moment in range(20):
        times.observe(1, (3 if moment else 60) * MS, 22)
    times.observe(1, 3 * MS, 23)
    assert in_ms(times.curve_ns(23)) == [3]


def test_old_news_is_forgotten() -> None:
    """Else one stall at a size would rule it out for ever: what is never run is never measured."""
    times = BatchTimes(GPU, most=2)
    times.observe(2, 500 * MS, 0)
    assert in_ms(times.curve_ns(MEMORY_NS))[1] == 500
    assert in_ms(times.curve_ns(MEMORY_NS + 1)) == [10, 11]


@given(
    st.dictionaries(st.integers(2, 9), st.integers(1, 10**9), max_size=4),
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 10**9), st.integers(0, 10**10)), max_size=40),
)
def test_larger_batches_never_take_less(first: dict[int, int], seen: list[tuple[int, int, int]]) -> None:
    times = BatchTimes({1: 10**6, **first}, most=8)
    now = 0
    for size, taken, gap in seen:
        now += gap
        times.observe(size, taken, now)
    curve = times.curve_ns(now)
    assert curve == sorted(curve) and len(curve) == 8 and curve[0] >= 1


@pytest.mark.parametrize(
    ("curve", "size"),
    [
        ([10, 20, 30, 40], 1),  # two cost two: a batch only makes the first wait
        ([100, 195, 295], 1),  # as good as two
        ([10, 15, 21, 29], 3),
        ([10, 11, 12, 13], 4),
        ([10, 25, 27, 28], 4),
        ([10], 1),
    ],
)
def test_the_best_size_is_that_of_least_time_per_job(curve: list[int], size: int) -> None:
    assert best_size(curve) == size


@pytest.mark.parametrize(
    ("curve", "waiting", "pays"),
    [
        ([10, 20], 1, -5.0),
        ([10, 11], 1, 4.0),
        ([10, 10, 10], 1, 5.0),
        ([12, 12, 12], 2, 4.0),
        ([12, 13, 20], 2, -3.0),
    ],
)
def test_waiting_pays_if_all_end_earlier_on_average(curve: list[int], waiting: int, pays: float) -> None:
    assert pays_ns(curve, waiting) == pytest.approx(pays)
    gap = pays
    together = (waiting + 1) * (gap + curve[waiting])
    apart = waiting * curve[waiting - 1] + curve[waiting - 1] + curve[0]
    assert together == pytest.approx(apart)  # that soon, it makes no difference


def batcher(times: dict[int, int], *, most: int = 8, margin: int = 0, gap: int | None = None) -> Batcher:
    """`gap`: a job comes every so many ms, the last one now, at 0."""
    made = Batcher(margin_ns=margin * MS)
    made.host("k", BatchTimes(times, most=most))
    for number in range(30, -1, -1) if gap is not None else ():
        made.arrived("k", -number * gap * MS)
    return made


@pytest.mark.parametrize(
    ("times", "waiting", "size"),
    [(CPU, 1, 1), (CPU, 8, 1), (GPU, 1, 1), (GPU, 2, 2), (GPU, 3, 3), (GPU, 8, 8)],
)
def test_what_waits_runs_at_once_when_a_server_is_free(times: dict[int, int], waiting: int, size: int) -> None:
    batch = batcher(times).decide("k", [FAR] * waiting, 0)
    assert batch.size == size and batch.cost_ns == BatchTimes(times, most=8).curve_ns(0)[size - 1]


def test_never_more_than_the_model_takes() -> None:
    assert batcher(GPU, most=4).decide("k", [FAR] * 9, 0).size == 4


@pytest.mark.parametrize(
    ("deadlines", "margin", "size"),
    [
        ([17, 50, 50, 50, 50, 50, 50, 50], 0, 8),
        ([16, 50, 50, 50, 50, 50, 50, 50], 0, 7),
        ([50, 13, 50, 50, 50, 50, 50, 50], 0, 4),
        ([50, 13, 50, 50, 50, 50, 50, 50], 1, 3),
        ([50, 9, 50], 0, 1),  # the second can't make it in any batch; the first goes alone
        ([5, 50], 0, 1),  # that the first makes it was the queue's question
    ],
)
def test_a_batch_closes_in_time_for_its_earliest_deadline(deadlines: list[int], margin: int, size: int) -> None:
    made = batcher(GPU, margin=margin).decide("k", [at * MS for at in deadlines], 0)
    assert made.size == size


@pytest.mark.parametrize(
    ("times", "gap", "deadline", "margin", "until"),
    [
        (GPU, 1, 1000, 0, 4),  # two at l(2) instead of l(1) and l(1): pays if the next comes within 4 ms
        (GPU, 3, 1000, 0, 4),
        (GPU, 4, 1000, 0, None),
        (GPU, 40, 1000, 0, None),
        (CPU, 1, 1000, 0, None),  # a batch of two costs two singles: waiting never pays
        (GPU, 1, 14, 0, 3),  # d_min − l(2)
        (GPU, 1, 14, 2, 1),
        (GPU, 1, 11, 0, None),
    ],
)
def test_a_free_server_waits_only_where_it_pays_and_no_deadline_suffers(
    times: dict[int, int], gap: int, deadline: int, margin: int, until: int | None
) -> None:
    made = batcher(times, gap=gap, margin=margin).decide("k", [deadline * MS], 0)
    assert made == (Batch(1, times[1]) if until is None else Batch(0, 0, until * MS))


def test_nobody_waits_longer_for_one_that_does_not_come_nor_when_the_batch_is_full() -> None:
    made = batcher(GPU, gap=1, most=2)
    assert made.decide("k", [FAR], 4 * MS - 1).size == 0
    assert made.decide("k", [FAR], 4 * MS) == Batch(1, GPU[1])
    assert made.decide("k", [FAR, FAR], 0) == Batch(2, GPU[2])


def test_where_batches_turn_out_not_to_pay_they_end() -> None:
    """Warm-up promised that two cost hardly more than one; the machine, now, does not keep that."""
    made = batcher(GPU)
    sizes = []
    for moment in range(20):
        size = made.decide("k", [FAR] * 8, moment).size
        sizes.append(size)
        made.observe("k", size, size * 10 * MS, moment)
    assert sizes[0] == 8 and sizes[-5:] == [1] * 5


def test_keys_come_and_go() -> None:
    made = batcher(GPU)
    made.host("other", BatchTimes(CPU, most=8))
    made.observe("other", 8, MS, 0)
    assert made.decide("k", [FAR] * 8, 0) == Batch(8, GPU[8])
    made.drop("k")
    made.observe("k", 1, MS, 0)
    for call in (lambda: made.decide("k", [FAR], 0), lambda: made.arrived("k", 0)):
        with pytest.raises(KeyError):
            call()


@pytest.mark.parametrize(("first", "most"), [({2: MS}, 2), ({1: MS}, 0)])
def test_single_jobs_must_be_known(first: dict[int, int], most: int) -> None:
    with pytest.raises(ValueError, match="single jobs"):
        BatchTimes(first, most=most)


@pytest.mark.parametrize(
    ("taken", "most"),
    [
        ({1: 10}, 1),
        ({1: 10, 2: 20}, 1),
        ({1: 10, 2: 16}, 1),  # 20 % less work, and the first of two ends 6 later so that the second ends 4 sooner
        ({1: 10, 2: 15}, 2),
        ({1: 10, 2: 11, 4: 13, 8: 17}, 8),
        ({1: 10, 2: 11, 4: 26}, 2),
        ({1: 10, 2: 16, 4: 20}, 4),
    ],
)
def test_jobs_run_together_where_they_end_no_later_on_average_than_in_turn(taken: dict[int, int], most: int) -> None:
    assert worthwhile_size(taken) == most


def test_no_server_is_held_where_it_may_not_be() -> None:
    batcher = Batcher()
    batcher.host("x", BatchTimes({1: 10, 2: 11}, most=2))
    for moment in range(5):
        batcher.arrived("x", moment)
    assert batcher.decide("x", [1000], 5).size == 0
    assert batcher.decide("x", [1000], 5, hold=False) == Batch(1, 10)
