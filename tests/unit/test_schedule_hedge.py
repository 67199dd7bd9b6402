"""When a request is sent a second time, and that it is never more than a share of all."""

from __future__ import annotations

import pytest

from splitmesh.schedule.hedge import HedgeBudget, Hedging


@pytest.mark.parametrize(("share", "requests"), [(0.02, 1000), (0.02, 49), (0.02, 50), (0.1, 777)])
def test_second_requests_are_never_more_than_their_share(share: float, requests: int) -> None:
    budget = HedgeBudget(share)
    spent = 0
    for _ in range(requests):
        budget.earn()
        spent += budget.spend()
    assert spent == int(share * requests + 1e-9)


def test_no_more_than_two_are_saved_up() -> None:
    budget = HedgeBudget()
    for _ in range(10_000):
        budget.earn()
    assert [budget.spend() for _ in range(4)] == [True, True, False, False]


def learnt() -> Hedging:
    """Of a kind that takes what is expected, one in ten three times as long."""
    hedging = Hedging()
    for number in range(60):
        hedging.took("tail", 30.0 if number % 10 == 9 else 10.0, 10.0)
    return hedging


def test_it_is_due_at_the_95th_percentile_of_its_kind_scaled_to_what_is_expected_now() -> None:
    assert learnt().delay_ms("tail", 20.0, 500.0) == pytest.approx(60.0)


def test_it_is_due_only_if_it_can_still_make_it() -> None:
    assert learnt().delay_ms("tail", 20.0, 80.0) is not None
    assert learnt().delay_ms("tail", 20.0, 79.9) is None


def test_nothing_is_due_of_a_kind_that_is_not_known_yet() -> None:
    hedging = Hedging()
    for _ in range(19):
        hedging.took("new", 10.0, 10.0)
    assert hedging.delay_ms("new", 10.0, 1000.0) is None and hedging.delay_ms("other", 10.0, 1000.0) is None
    hedging.took("new", 10.0, 10.0)
    assert hedging.delay_ms("new", 10.0, 1000.0) == pytest.approx(10.0)


def test_what_was_long_ago_is_forgotten() -> None:
    hedging = learnt()
    for _ in range(64):
        hedging.took("tail", 10.0, 10.0)
    assert hedging.delay_ms("tail", 20.0, 500.0) == pytest.approx(20.0)


def test_what_nothing_was_expected_of_teaches_nothing() -> None:
    hedging = learnt()
    hedging.took("tail", 1e9, 0.0)
    assert hedging.delay_ms("tail", 20.0, 500.0) == pytest.approx(60.0)
