"""What breaker and lateness learn of one offer, exactly once."""

from __future__ import annotations

import time

import pytest

from splitmesh.policy.breaker import BreakerState
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.verdict import Verdict
from splitmesh.policy.world import World

MS = 1_000_000


def world() -> World:
    made = World(
        [OperatingPoint("track", Place.TRACK, 1.0), OperatingPoint("local", Place.LOCAL, 1.0)], track_kappa=1
    )
    for _ in range(2):
        made.breaker.on_success(0)
    assert made.breaker.closed
    return made


def verdict(made: World, predicted_ms: float, *, probe: bool = False) -> tuple[Verdict, int]:
    """Of an offer with 400 ms; the deadline."""
    now_ns = time.monotonic_ns()
    deadline_ns = now_ns + 400 * MS
    given = Verdict(
        made, Place.SPLIT, decided_ns=now_ns, deadline_ns=deadline_ns, predicted_ms=predicted_ms, probe=probe
    )
    return given, deadline_ns


@pytest.mark.parametrize(("predicted_ms", "opens"), [(300.0, True), (800.0, False)])
def test_only_what_was_expected_in_time_can_break_the_breaker(predicted_ms: float, opens: bool) -> None:
    made = world()
    for _ in range(6):
        given, deadline_ns = verdict(made, predicted_ms)
        given.deadline_passed(time.monotonic_ns())
        given.answered(deadline_ns + 300 * MS)
        given.failed(deadline_ns + 400 * MS)
    assert (made.breaker.state is BreakerState.OPEN) == opens


@pytest.mark.parametrize("predicted_ms", [300.0, 800.0])
def test_six_offers_without_any_reply_open_it_in_any_case(predicted_ms: float) -> None:
    made = world()
    for _ in range(6):
        given, deadline_ns = verdict(made, predicted_ms)
        given.deadline_passed(time.monotonic_ns())
        given.failed(deadline_ns + 5000 * MS)
    assert made.breaker.state is BreakerState.OPEN


def test_a_late_key_teaches_how_late_it_was_and_not_how_early_it_was_given_up() -> None:
    made = world()
    before = made.lateness[Place.SPLIT].p_within(800.0, 700.0, time.monotonic_ns())
    for _ in range(20):
        given, deadline_ns = verdict(made, 800.0)
        given.deadline_passed(time.monotonic_ns())
        given.answered(deadline_ns + 600 * MS)
    assert made.lateness[Place.SPLIT].p_within(800.0, 700.0, time.monotonic_ns()) < before


def test_a_probe_teaches_nothing_about_lateness() -> None:
    made = world()
    given, deadline_ns = verdict(made, 1.0, probe=True)
    given.answered(deadline_ns - MS)
    assert not made.lateness[Place.SPLIT]._residuals
