"""What payloads weigh: each cut and codec by its own measure, keys apart, and whether one is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from splitmesh.policy.adaptive import Adaptive
from splitmesh.policy.decision import Observation
from splitmesh.policy.link import LinkEstimator
from splitmesh.policy.payloads import MESSAGE_BYTES, STREAM_MESSAGE_BYTES, Payloads, Reference, same_stream
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import World

MS = 1_000_000
TRACK = OperatingPoint("track", Place.TRACK, 1.0)
LOCAL = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=500.0)
FLOW = OperatingPoint(
    "split/c/temporal-80", Place.SPLIT, 0.97, "c", "temporal", 80,
    edge_ms=40.0, encode_ms=2.0, payload_bytes=500.0, decode_ms=2.0, cloud_ms=10.0, resume_ms=60.0, key_bytes=5000.0,
)  # fmt: skip
COARSE = replace(FLOW, name="split/c/temporal-60", level=60, fidelity=0.92, payload_bytes=300.0, key_bytes=2500.0)
ALONE = replace(FLOW, name="split/c/compact-60", codec="compact", fidelity=0.9, payload_bytes=3000.0, key_bytes=0.0)
PICTURE = OperatingPoint(
    "frame/h264-30", Place.FRAME, 0.9, "", "h264", 30, payload_bytes=900.0, cloud_ms=20.0, key_bytes=9000.0
)
SEEN = Observation(10**9, 400.0, 0.0, 100.0, motion=0.1, track_age_ms=400.0)


def world(*points: OperatingPoint, bandwidth_bps: float = 64_000.0, base_ms: float = 80.0) -> World:
    w = World(
        [TRACK, LOCAL, *points], track_kappa=3.0, link=LinkEstimator(bandwidth_bps=bandwidth_bps, base_ms=base_ms)
    )
    w.breaker.on_alive(10**9)
    for _ in range(2):
        w.breaker.on_success(10**9)
    assert w.breaker.closed
    return w


def test_ratios_are_learnt_per_cut_and_codec_and_keys_apart() -> None:
    payloads = Payloads()
    for _ in range(20):
        payloads.on_sent(FLOW, 1000, key=False)
        payloads.on_sent(FLOW, 4000, key=True)
    assert payloads.expected(FLOW) == pytest.approx(1000)
    assert payloads.expected(COARSE) == pytest.approx(600), "levels share it"
    assert payloads.expected(FLOW, key=True) == pytest.approx(4000)
    assert payloads.expected(ALONE) == 3000
    assert payloads.expected(replace(FLOW, cut="d")) == 500


@pytest.mark.parametrize(("measured", "expected"), [(1, 50.0), (10**6, 5000.0)])
def test_no_measurement_moves_an_expectation_by_more_than_ten(measured: int, expected: float) -> None:
    payloads = Payloads()
    for _ in range(100):
        payloads.on_sent(FLOW, measured, key=False)
    assert payloads.expected(FLOW) == pytest.approx(expected)


def test_a_key_is_needed_until_a_reference_is_alive() -> None:
    payloads = Payloads()
    assert payloads.needs_key(FLOW) and not payloads.needs_key(ALONE)
    payloads.on_reference("temporal", "c", Reference.COMING)
    assert payloads.needs_key(FLOW)
    payloads.on_reference("temporal", "c", Reference.ALIVE)
    assert not payloads.needs_key(FLOW) and not payloads.needs_key(COARSE)
    assert payloads.needs_key(replace(FLOW, cut="d")) and payloads.needs_key(PICTURE)


def test_how_long_keys_last_is_learnt() -> None:
    steady, shaky = Payloads(), Payloads()
    for index in range(200):
        steady.on_sent(FLOW, 500, key=False)
        shaky.on_sent(FLOW, 500, key=index % 3 == 0)
    assert Payloads().key_life_frames(FLOW) == 30
    assert steady.key_life_frames(FLOW) > 100 and 2 <= shaky.key_life_frames(FLOW) < 5


def test_levels_of_one_stream_are_one_stream() -> None:
    assert same_stream(FLOW, COARSE)
    assert not same_stream(FLOW, replace(FLOW, cut="d")) and not same_stream(ALONE, ALONE)


def test_a_video_stream_needs_a_key_for_another_level() -> None:
    payloads, finer = Payloads(), replace(PICTURE, name="frame/h264-20", level=20)
    payloads.on_reference("h264", "", Reference.ALIVE)
    payloads.on_sent(PICTURE, 9000, key=True)
    assert not payloads.needs_key(PICTURE) and payloads.needs_key(finer)
    assert not same_stream(PICTURE, finer) and same_stream(PICTURE, PICTURE)
    payloads.on_sent(finer, 12_000, key=True)
    assert payloads.needs_key(PICTURE) and not payloads.needs_key(finer)


def test_the_world_sees_what_the_next_message_weighs() -> None:
    w = world(FLOW, ALONE)
    assert w.message_bytes(FLOW) == 5000 + MESSAGE_BYTES
    assert w.message_bytes(ALONE) == 3000 + MESSAGE_BYTES
    late = w.predicted_ms(FLOW, SEEN)
    w.payloads.on_reference("temporal", "c", Reference.ALIVE)
    assert w.message_bytes(FLOW) == 500 + STREAM_MESSAGE_BYTES
    assert late - w.predicted_ms(FLOW, SEEN) == pytest.approx((4500 + 100) * 8 / 64)


def test_a_key_that_will_be_late_is_sent_for_what_follows_and_the_reason_says_so() -> None:
    w = world(FLOW, ALONE)
    decision = Adaptive().decide(world=w, seen=SEEN)
    assert decision.point is FLOW
    assert decision.chosen.p_hit < 0.1, "5 kB take 650 ms"
    assert "a key of 5.0 kB first, then 0.5 kB a frame" in decision.reason
    w.payloads.on_reference("temporal", "c", Reference.ALIVE)
    after = Adaptive().decide(world=w, seen=SEEN)
    assert after.point is FLOW and after.chosen.p_hit > 0.9 and "key" not in after.reason


def test_while_a_key_is_under_way_others_stand_in_and_are_not_held_to() -> None:
    w = world(FLOW, ALONE, bandwidth_bps=2e6, base_ms=20.0)
    policy = Adaptive()
    assert policy.decide(world=w, seen=SEEN).point is FLOW
    w.payloads.on_reference("temporal", "c", Reference.COMING)
    assert policy.decide(world=w, seen=SEEN).point.codec != "temporal"
    w.payloads.on_reference("temporal", "c", Reference.ALIVE)
    assert policy.decide(world=w, seen=SEEN).point is FLOW


def test_keys_that_never_last_are_not_worth_it() -> None:
    w = world(FLOW, ALONE, bandwidth_bps=400_000.0, base_ms=40.0)
    for _ in range(300):
        w.payloads.on_sent(FLOW, 5000, key=True)
    chosen = Adaptive().decide(world=w, seen=SEEN)
    patient = Adaptive().decide(world=world(FLOW, ALONE, bandwidth_bps=400_000.0, base_ms=40.0), seen=SEEN)
    assert patient.point is FLOW and chosen.chosen.utility < patient.chosen.utility


def test_switching_between_levels_of_a_stream_costs_nothing() -> None:
    w = world(FLOW, COARSE, bandwidth_bps=2e6, base_ms=20.0)
    w.payloads.on_reference("temporal", "c", Reference.ALIVE)
    policy = Adaptive()
    assert policy.decide(world=w, seen=SEEN).point is FLOW
    finer = replace(FLOW, name="split/c/temporal-90", level=90, fidelity=0.975, payload_bytes=520.0)
    richer = world(FLOW, finer, bandwidth_bps=2e6, base_ms=20.0)
    richer.payloads.on_reference("temporal", "c", Reference.ALIVE)
    assert policy.decide(world=richer, seen=SEEN).point is finer, "a small gain is taken at once"


def test_while_a_key_is_being_made_the_next_frames_bring_none() -> None:
    w = world(FLOW, ALONE, bandwidth_bps=2e6, base_ms=20.0)
    policy = Adaptive()
    assert policy.decide(world=w, seen=SEEN).point is FLOW
    soon = replace(SEEN, now_ns=SEEN.now_ns + 30 * MS)
    assert policy.decide(world=w, seen=soon).point.codec != "temporal", "the head alone takes 40 ms"
    later = replace(SEEN, now_ns=SEEN.now_ns + 100 * MS)
    assert policy.decide(world=w, seen=later).point is FLOW, "the first one never came to be sent"


def test_a_long_local_run_is_charged_for_the_frames_that_it_keeps_from_the_device() -> None:
    w = world(FLOW, bandwidth_bps=2e6, base_ms=20.0)
    w.payloads.on_reference("temporal", "c", Reference.ALIVE)
    quick = replace(LOCAL, edge_ms=90.0)
    forecasts = {}
    for local in (quick, replace(LOCAL, edge_ms=250.0)):
        twin = World([TRACK, local, FLOW], track_kappa=3.0, link=w.link)
        twin.breaker, twin.payloads = w.breaker, w.payloads
        decision = Adaptive().decide(world=twin, seen=SEEN)
        forecasts[local.edge_ms] = decision
    assert forecasts[90.0].point.place is Place.LOCAL, "it is exact, and done before the next frame comes"
    assert forecasts[250.0].point is FLOW
    w.breaker.on_alive(0)
    alone = World([TRACK, replace(LOCAL, edge_ms=250.0)], track_kappa=3.0)
    assert Adaptive().decide(world=alone, seen=SEEN).point.place is Place.LOCAL, "nothing better is kept from anybody"


def test_how_long_coding_takes_here_is_learnt() -> None:
    """A plan for a device that is taken to be twelve times slower says so of its codecs too, which it need not be."""
    w = world(FLOW, ALONE)
    before = w.predicted_ms(FLOW, SEEN)
    for _ in range(30):
        w.on_encoded(ALONE, ALONE.encode_ms / 2)
    assert w.encode_ms(FLOW) == pytest.approx(FLOW.encode_ms / 2)
    assert before - w.predicted_ms(FLOW, SEEN) == pytest.approx(FLOW.encode_ms / 2)
