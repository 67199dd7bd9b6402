"""The prediction of service times: follows, is not fooled by one stall, and recovers without observations."""

from __future__ import annotations

from splitmesh.schedule.service_time import FADE_NS, ServiceTime

MS = 1_000_000


def test_warm_up_is_the_first_word() -> None:
    time = ServiceTime(20 * MS)
    assert time.mean_ns(0) == time.mean_ns(10**12) == time.p95_ns() == 20 * MS
    assert time.slack_ns(0) == 0


def test_the_mean_follows() -> None:
    time = ServiceTime(10 * MS)
    for i in range(100):
        time.observe(30 * MS, i)
    assert abs(time.mean_ns(100) - 30 * MS) < 0.01 * MS
    assert time.p95_ns() == 30 * MS


def test_one_stall_moves_little() -> None:
    time = ServiceTime(10 * MS)
    for i in range(50):
        time.observe(10 * MS, i)
    time.observe(10_000 * MS, 50)
    assert time.mean_ns(50) == 13 * MS
    assert time.p95_ns() == 10 * MS


def test_the_spread_is_kept_free_but_never_more_than_a_mean() -> None:
    time = ServiceTime(10 * MS)
    for i in range(60):
        time.observe((10 if i % 10 else 14) * MS, i)
    assert 3 * MS < time.slack_ns(60) < 4 * MS
    for i in range(60):
        time.observe((10 if i % 2 else 300) * MS, i)
    assert time.slack_ns(60) <= time.mean_ns(60)


def test_bad_news_fades_without_observations() -> None:
    """Else a worker that once was slow would refuse all requests, and never learn that it is fast again."""
    time = ServiceTime(10 * MS)
    for i in range(200):
        time.observe(90 * MS, i)
    assert abs(time.mean_ns(200) - 90 * MS) < MS
    assert abs(time.mean_ns(200 + FADE_NS) - 50 * MS) < MS
    assert abs(time.mean_ns(200 + 10 * FADE_NS) - 10 * MS) < MS
    assert time.slack_ns(200 + 10 * FADE_NS) < MS


def test_the_window_forgets() -> None:
    time = ServiceTime(10 * MS, window=8)
    for i in range(8):
        time.observe(80 * MS, i)
    for i in range(8):
        time.observe(5 * MS, i)
    assert time.p95_ns() == 5 * MS


def test_a_run_let_in_against_the_prediction_is_believed_at_once() -> None:
    time = ServiceTime(500_000_000)
    time.restart(40_000_000, 10**9)
    assert time.mean_ns(10**9) == 40_000_000
    assert time.mean_ns(10**12) == 40_000_000, "the warm-up is forgotten"
    assert time.p95_ns() == 40_000_000
