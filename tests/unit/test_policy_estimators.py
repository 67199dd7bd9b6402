from __future__ import annotations

import math
import random

import pytest

from splitmesh.policy.breaker import Breaker, BreakerState
from splitmesh.policy.estimators import LatenessEstimator, OnlineQuantile, ScaleEstimator
from splitmesh.policy.track_fidelity import TrackFidelity

MS = 1_000_000


def test_scale_takes_the_first_measurement_whole_and_then_smooths() -> None:
    scale = ScaleEstimator()
    assert scale.value == 1.0
    scale.observe(84.0, 14.0)
    assert scale.value == pytest.approx(6.0)
    for _ in range(60):
        scale.observe(28.0, 14.0)
    assert scale.value == pytest.approx(2.0, rel=0.05)


def test_one_preempted_run_hardly_moves_the_scale() -> None:
    scale = ScaleEstimator()
    for _ in range(20):
        scale.observe(14.0, 14.0)
    scale.observe(1400.0, 14.0)
    assert scale.value < 1.1


@pytest.mark.parametrize(("measured_ms", "profiled_ms"), [(0.0, 5.0), (-1.0, 5.0), (5.0, 0.0), (5.0, 0.001)])
def test_scale_ignores_what_has_no_ratio(measured_ms: float, profiled_ms: float) -> None:
    scale = ScaleEstimator()
    scale.observe(measured_ms, profiled_ms)
    assert scale.samples == 0


@pytest.mark.parametrize("tau", [0.5, 0.9, 0.95])
def test_online_quantile_covers_what_it_promises(tau: float) -> None:
    rng = random.Random(3)
    quantile = OnlineQuantile(tau)
    xs = [rng.gauss(0, 1) for _ in range(4_000)]
    for x in xs:
        quantile.observe(x)
    covered = sum(x <= quantile.value for x in xs) / len(xs)
    assert covered == pytest.approx(tau, abs=0.04)


def test_online_quantile_refuses_a_tau_outside_its_range() -> None:
    with pytest.raises(ValueError, match="tau"):
        OnlineQuantile(1.0)


def test_lateness_is_calibrated_on_log_normal_errors() -> None:
    rng = random.Random(4)
    late = LatenessEstimator()
    for _ in range(64):
        late.observe(100 * math.exp(rng.gauss(0, 0.15)), 100, 0)
    assert late.p_within(100, 100, 0) == pytest.approx(0.5, abs=0.15)
    assert late.p_within(100, 150, 0) > 0.95
    assert late.p_within(100, 65, 0) < 0.05
    assert late.p_within(100, 0, 0) == 0
    assert late.p_within(100, 120, 0) > late.p_within(110, 120, 0)


def test_lateness_learns_that_predictions_are_too_rosy() -> None:
    late = LatenessEstimator()
    rosy = late.p_within(100, 130, 0)
    for _ in range(32):
        late.observe(200, 100, 0)
    assert late.p_within(100, 130, 0) < 0.15 < rosy


def test_what_went_wrong_long_ago_counts_no_more() -> None:
    late = LatenessEstimator()
    rosy = late.p_within(100, 130, 0)
    for _ in range(32):
        late.observe(200, 100, 0)
    soon, later = late.p_within(100, 130, 2_000_000_000), late.p_within(100, 130, 30_000_000_000)
    assert soon < 0.2 and later > 0.9 * rosy


def test_track_fidelity_starts_from_the_plan_and_falls_with_age_and_motion() -> None:
    track = TrackFidelity(kappa=20)
    young, old = track.a_track(0.02, 40), track.a_track(0.02, 800)
    assert 0.9 < young <= 1 and old < young
    assert track.a_track(0.08, 400) < track.a_track(0.02, 400)
    assert track.a_track(0.02, None) == 0


def test_track_fidelity_is_taught_by_audits() -> None:
    track = TrackFidelity(kappa=5)
    before = track.a_track(0.02, 200)
    for age_ms in (80, 120, 200, 400) * 25:
        track.audit(max(0.0, 0.9 - age_ms / 500), 0.02, age_ms)
    assert track.a_track(0.02, 200) == pytest.approx(0.5, abs=0.12)
    assert track.a_track(0.02, 80) > track.a_track(0.02, 200) > track.a_track(0.02, 400)
    assert before > 0.9


@pytest.mark.parametrize("kappa", [-1.0, math.nan, math.inf])
def test_track_fidelity_refuses_a_kappa_that_is_none(kappa: float) -> None:
    with pytest.raises(ValueError, match="kappa"):
        TrackFidelity(kappa=kappa)


def test_breaker_opens_on_misses_and_closes_after_two_probes() -> None:
    breaker = Breaker(misses_to_open=3)
    assert breaker.state is BreakerState.OPEN
    breaker.on_alive(0)
    assert breaker.closed  # nothing has gone wrong yet
    for now_ms in (0, 0, 0):
        breaker.on_miss(now_ms * MS)
    assert breaker.state is BreakerState.OPEN
    breaker.on_alive(0)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.on_success(1 * MS)
    assert not breaker.closed
    breaker.on_success(2 * MS)
    assert breaker.closed
    for now_ms in (3, 4):
        breaker.on_miss(now_ms * MS)
    breaker.on_success(5 * MS)  # not in a row
    for now_ms in (6, 7):
        breaker.on_miss(now_ms * MS)
    assert breaker.closed
    breaker.on_miss(8 * MS)
    assert breaker.state is BreakerState.OPEN
    assert "3 misses" in breaker.reason


def test_breaker_opens_on_silence_only() -> None:
    breaker = Breaker(silence_ms=1000)
    for now_ms in (0, 1, 2):
        breaker.on_success(now_ms * MS)
    breaker.tick(900 * MS)
    assert breaker.closed
    breaker.tick(1100 * MS)
    assert breaker.state is BreakerState.OPEN
    breaker.tick(9000 * MS)
    assert breaker.opened == 1
    breaker.on_alive(9001 * MS)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_missed_probe_keeps_the_breaker_half_open() -> None:
    breaker = Breaker(misses_to_open=3)
    breaker.on_alive(0)
    breaker.tick(2000 * MS)
    breaker.on_success(2001 * MS)
    breaker.on_miss(2002 * MS)
    breaker.on_success(2003 * MS)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.on_success(2004 * MS)
    assert breaker.closed


def test_boxes_that_hold_for_a_while_and_are_lost_all_at_once_are_no_line() -> None:
    track = TrackFidelity(kappa=5)
    for _ in range(20):
        for age_ms, f1 in ((300, 0.9), (400, 0.7), (600, 0.3)):
            track.audit(f1, 0.005, age_ms)
    for age_ms, f1 in ((300, 0.9), (400, 0.7), (600, 0.3)):
        assert track.a_track(0.005, age_ms) == pytest.approx(f1, abs=0.08)
    assert track.a_track(0.005, 0) > 0.7 and track.a_track(0.005, 2_000) < 0.45
