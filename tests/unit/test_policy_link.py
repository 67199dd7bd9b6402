"""The link estimator against a simulated first-in first-out link: time is a number."""

from __future__ import annotations

import random

import pytest

from splitmesh.policy.link import LinkEstimator

MS = 1_000_000


class FifoLink:
    """Ground truth: one message after another, `rate_bps(t)`, `base_ms` per message, acks after `remote_ms`."""

    def __init__(self, rate_bps: float, base_ms: float) -> None:
        self.rate_bps = rate_bps
        self.base_ms = base_ms
        self.free_ns = 0

    def send(self, now_ns: int, size: int, remote_ms: float) -> int:
        """When the ack is back."""
        self.free_ns = max(now_ns, self.free_ns) + int(size * 8 / self.rate_bps * 1e9)
        return self.free_ns + int((self.base_ms + remote_ms) * MS)


def play(estimator: LinkEstimator, link: FifoLink, *, sizes: list[int], period_ms: float, start_ns: int = 0) -> int:
    """Send `sizes` one per period, deliver the acks in time order; the end of it."""
    acks: list[tuple[int, str]] = []
    now_ns = start_ns
    for index, size in enumerate(sizes):
        now_ns = start_ns + int(index * period_ms * MS)
        while acks and acks[0][0] <= now_ns:
            at_ns, key = acks.pop(0)
            estimator.on_delivered(key, at_ns, remote_ms=10)
        key = f"{start_ns}.{index}"
        estimator.on_sent(key, size, now_ns, remote_ms=10)
        acks.append((link.send(now_ns, size, 10), key))
    for at_ns, key in acks:
        now_ns = max(now_ns, at_ns)
        estimator.on_delivered(key, at_ns, remote_ms=10)
    return now_ns


@pytest.mark.parametrize("rate_bps", [5e5, 2e6, 1e7, 4e7])
@pytest.mark.parametrize("base_ms", [5.0, 40.0])
def test_finds_rate_and_base_delay(rate_bps: float, base_ms: float) -> None:
    rng = random.Random(1)
    estimator = LinkEstimator()
    link = FifoLink(rate_bps, base_ms)
    sizes = [rng.randint(4_000, 24_000) for _ in range(120)]
    end_ns = play(estimator, link, sizes=sizes, period_ms=max(40.0, 24_000 * 8 / rate_bps * 1e3))
    for size in (6_000, 12_000, 20_000):
        truth_ms = size * 8 / rate_bps * 1e3 + base_ms
        assert estimator.network_ms(size, end_ns + 10**9) == pytest.approx(truth_ms, rel=0.15)


def test_queueing_behind_own_messages_is_not_taken_for_a_slow_link() -> None:
    estimator = LinkEstimator()
    link = FifoLink(2e6, 10.0)
    sizes = [9_000 + 4_000 * (i % 3) for i in range(60)]
    play(estimator, link, sizes=sizes, period_ms=40.0)  # offered: 2.6 Mbit/s on 2 Mbit/s, so a queue builds
    assert estimator.bandwidth_bps == pytest.approx(2e6, rel=0.25)


def test_follows_a_drop_to_a_tenth_within_a_second() -> None:
    estimator = LinkEstimator()
    link = FifoLink(1e7, 10.0)
    end_ns = play(estimator, link, sizes=[12_000] * 50, period_ms=40.0)
    link.rate_bps = 1e6
    play(estimator, link, sizes=[12_000] * 10, period_ms=100.0, start_ns=end_ns + 40 * MS)
    assert estimator.transfer_ms(12_000) + estimator.base_ms == pytest.approx(96 + 10, rel=0.25)


def test_an_outage_is_not_taken_for_a_rate() -> None:
    estimator = LinkEstimator()
    link = FifoLink(1e7, 10.0)
    end_ns = play(estimator, link, sizes=[8_000, 12_000, 16_000] * 12, period_ms=40.0)
    before_bps = estimator.bandwidth_bps
    sent_ns = end_ns + 40 * MS
    estimator.on_sent("held", 12_000, sent_ns, remote_ms=10)
    estimator.on_delivered("held", sent_ns + 6_000 * MS, remote_ms=10)
    assert estimator.bandwidth_bps == pytest.approx(before_bps, rel=0.01)
    # The second such message in a row is believed.
    estimator.on_sent("slow", 12_000, sent_ns + 6_040 * MS, remote_ms=10)
    estimator.on_delivered("slow", sent_ns + 12_000 * MS, remote_ms=10)
    assert estimator.bandwidth_bps < before_bps / 2


def test_an_overdue_ack_shows_as_a_stall_at_once() -> None:
    estimator = LinkEstimator()
    link = FifoLink(1e7, 10.0)
    now_ns = play(estimator, link, sizes=[8_000, 16_000] * 20, period_ms=40.0) + 40 * MS
    estimator.on_sent("a", 12_000, now_ns, remote_ms=10)
    assert estimator.view(now_ns + 20 * MS).stalled_ms == pytest.approx(0, abs=2)
    late = estimator.view(now_ns + 200 * MS)
    assert late.stalled_ms == pytest.approx(170, abs=15)
    assert late.backlog_bytes == 12_000
    assert estimator.network_ms(12_000, now_ns + 200 * MS) > estimator.network_ms(12_000, now_ns + 20 * MS)
    estimator.on_lost("a")
    assert estimator.view(now_ns + 200 * MS).stalled_ms == 0


def test_acks_that_overtake_each_other_do_not_confuse_delay_with_rate() -> None:
    """A small message behind a large one: its own ack is back first, since the worker holds the large one longer."""
    estimator = LinkEstimator(bandwidth_bps=5e6, base_ms=60)
    link = FifoLink(1e7, 20.0)
    now_ns = 0
    for index in range(80):
        size = (13_000, 42_000)[index % 2]
        estimator.on_sent(f"large {index}", size, now_ns, remote_ms=25)
        large_ns = link.send(now_ns, size, 25)
        estimator.on_sent(f"small {index}", 150, now_ns + MS, remote_ms=0)
        small_ns = link.send(now_ns + MS, 150, 0)
        assert small_ns < large_ns
        estimator.on_delivered(f"small {index}", small_ns, remote_ms=0)
        estimator.on_delivered(f"large {index}", large_ns, remote_ms=25)
        now_ns += 80 * MS
    assert estimator.base_ms == pytest.approx(20, rel=0.1)
    assert estimator.bandwidth_bps == pytest.approx(1e7, rel=0.15)


def test_unknown_keys_teach_nothing() -> None:
    estimator = LinkEstimator()
    assert estimator.on_delivered("never sent", 5 * MS, remote_ms=1) is None
    assert estimator.samples == 0


def test_survives_constant_sizes_and_absurd_samples() -> None:
    estimator = LinkEstimator()
    rng = random.Random(2)
    now_ns = 0
    for index in range(3_000):
        now_ns += 40 * MS
        estimator.on_sent(str(index), 12_000, now_ns, remote_ms=5)
        estimator.on_delivered(str(index), now_ns + int(rng.choice([0.01, 1, 30, 4_000]) * MS), remote_ms=5)
        assert 0 < estimator.base_ms < 1e5
        assert 1e3 < estimator.bandwidth_bps < 1e12
        assert estimator.network_ms(12_000, now_ns + 10**10) >= 0


def test_a_link_a_hundred_times_slower_than_thought_is_learnt_between_small_messages() -> None:
    """8 kB take a second at 64 kbit/s; the echoes between them are in line all the time."""
    estimator, now_ns = LinkEstimator(), 0
    for index in range(20):
        estimator.on_sent(f"large {index}", 8000, now_ns, remote_ms=25)
        now_ns += 1040 * MS
        estimator.on_delivered(f"large {index}", now_ns + 25 * MS, remote_ms=25)
        now_ns += 100 * MS
        estimator.on_sent(f"small {index}", 50, now_ns, remote_ms=0)
        now_ns += 46 * MS
        estimator.on_delivered(f"small {index}", now_ns, remote_ms=0)
    assert 50_000 < estimator.bandwidth_bps < 80_000 and 20 < estimator.base_ms < 60


@pytest.mark.parametrize("rate_bps", [64e3, 1e6, 1e7])
def test_an_unknown_rate_is_a_doubt_about_large_payloads_until_two_probes_are_back(rate_bps: float) -> None:
    estimator, link = LinkEstimator(), FifoLink(rate_bps, 80.0)
    assert estimator.doubt_ms(40_000) > 1000 > 50 > estimator.doubt_ms(500)
    play(estimator, link, sizes=[50, 718, 50, 718], period_ms=300.0)
    truth_ms = 40_000 * 8 / rate_bps * 1e3
    assert estimator.transfer_ms(40_000) + estimator.doubt_ms(40_000) > 0.95 * truth_ms
    assert estimator.doubt_ms(718) < 10
    assert min(rate_bps, 2e6) * 0.65 < estimator.bandwidth_bps < rate_bps * 1.35  # small probes tell slow from fast


def test_a_link_well_known_leaves_no_doubt() -> None:
    estimator = LinkEstimator()
    play(estimator, FifoLink(1e7, 20.0), sizes=[9_000, 13_000, 17_000] * 20, period_ms=40.0)
    assert estimator.doubt_ms(40_000) < 0.25 * estimator.transfer_ms(40_000)


def with_a_request_that_dies(estimator: LinkEstimator, *, echoes: int, period_ms: float = 100) -> int:
    """A request whose worker dies with it, and small messages that cross behind it; the time of the last ack."""
    estimator.on_sent("dead", 4000, 0, remote_ms=20)
    now_ns = 0
    for number in range(echoes):
        now_ns = int((number + 1) * period_ms * MS)
        estimator.on_sent(f"echo.{number}", 50, now_ns, remote_ms=0)
        now_ns += 5 * MS
        estimator.on_delivered(f"echo.{number}", now_ns, remote_ms=0)
    return now_ns


def test_a_request_that_a_worker_took_to_its_grave_stalls_nothing_once_a_later_message_has_crossed() -> None:
    estimator = LinkEstimator()
    estimator.on_sent("dead", 4000, 0, remote_ms=20)
    assert estimator.view(300 * MS).stalled_ms > 200
    estimator = LinkEstimator()
    view = estimator.view(with_a_request_that_dies(estimator, echoes=1))
    assert (view.stalled_ms, view.backlog_ms, view.backlog_bytes) == (0, 0, 0)


def test_a_request_that_a_worker_took_to_its_grave_holds_back_news_for_half_a_second_only() -> None:
    early, late = LinkEstimator(), LinkEstimator()
    with_a_request_that_dies(early, echoes=4)
    with_a_request_that_dies(late, echoes=8)
    assert early.samples == 0
    assert late.samples == 8
    assert late.base_ms < 10


def test_an_ack_that_nobody_waited_for_teaches_nothing_of_the_link_but_its_own_time() -> None:
    estimator = LinkEstimator()
    now_ns = with_a_request_that_dies(estimator, echoes=8)
    before = estimator.view(now_ns)
    spent_ms = estimator.on_delivered("dead", now_ns, remote_ms=0)
    assert spent_ms == now_ns / MS
    assert estimator.view(now_ns) == before
    estimator.on_sent("next", 50, now_ns, remote_ms=0)
    estimator.on_delivered("next", now_ns + 5 * MS, remote_ms=0)
    assert estimator.samples == before.samples + 1


@pytest.mark.parametrize("rate_bps", [64e3, 1e6, 2e7])
def test_the_interval_holds_the_rate_and_narrows(rate_bps: float) -> None:
    rng = random.Random(3)
    estimator = LinkEstimator()
    low_bps, high_bps = estimator.bandwidth_interval_bps
    assert 0 < low_bps < 2e5 and high_bps > 2e7, "little is known before the first message"
    link = FifoLink(rate_bps, 20)
    sizes = [rng.randint(200, int(rate_bps / 8 * 0.2) + 400) for _ in range(60)]
    play(estimator, link, sizes=sizes, period_ms=300)
    low_bps, high_bps = estimator.bandwidth_interval_bps
    assert low_bps < rate_bps < high_bps
    assert low_bps < estimator.bandwidth_bps < high_bps < 3 * low_bps
