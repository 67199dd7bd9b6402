"""What payloads weigh: each cut and codec by its own measure, keys apart, and whether one is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from splitmesh.policy.adaptive import Adaptive
from splitmesh.policy.decision import Observation
from splitmesh.policy.link import LinkEstimator
from splitmesh.policy.payloads import (
    MESSAGE_BYTES,
    STREAM_MESSAGE_BYTES,
    Payloads,
    Reference,
    at_level,
    coarser_at_will,
    fading_in,
    part_of_key,
    same_stream,
)
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


def settled(w: World) -> Observation:
    """The link is known as well as it ever is; a frame after that."""
    a_ms, per_byte_ms = w.link.base_ms, w.link.transfer_ms(1)
    for number in range(1, 41):
        size = 200 + 100 * (number % 9)
        w.link.on_sent(str(number), size, number * 10**9, remote_ms=0.0)
        crossing_ms = a_ms + per_byte_ms * size
        w.link.on_delivered(str(number), number * 10**9 + int(crossing_ms * MS), remote_ms=0.0)
    w.breaker.on_alive(42 * 10**9)
    return replace(SEEN, now_ns=42 * 10**9)


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
    w = world(PICTURE, ALONE, bandwidth_bps=128_000.0)
    decision = Adaptive(only="frame").decide(world=w, seen=SEEN)
    assert decision.point is PICTURE
    assert decision.chosen.p_hit < 0.1, "9 kB take 560 ms"
    assert "a key of 9.0 kB first, then 0.9 kB a frame" in decision.reason
    w.payloads.on_reference("h264", "", Reference.ALIVE)
    after = Adaptive(only="frame").decide(world=w, seen=SEEN)
    assert after.point is PICTURE and after.chosen.p_hit > 0.9 and "key" not in after.reason


def test_a_key_that_its_codec_can_make_coarser_comes_in_parts_and_in_time() -> None:
    w = world(FLOW, ALONE)
    seen = settled(w)
    decision = Adaptive().decide(world=w, seen=seen)
    assert decision.point is FLOW
    assert decision.chosen.p_hit > 0.7, "5 kB take 650 ms, a part of them does not"
    assert "a key of 5.0 kB in 4 parts first, then 0.5 kB a frame" in decision.reason
    w.payloads.on_reference("temporal", "c", Reference.ALIVE)
    after = Adaptive().decide(world=w, seen=seen)
    assert after.chosen.utility > decision.chosen.utility, "the parts are worth less than what follows"


def test_the_more_parts_a_key_comes_in_the_less_it_is_worth() -> None:
    utilities = []
    for bandwidth_bps in (40_000.0, 64_000.0, 128_000.0, 512_000.0):
        w = world(FLOW, bandwidth_bps=bandwidth_bps)
        utilities.append(Adaptive(only="split").decide(world=w, seen=settled(w)).chosen.utility)
    assert utilities == sorted(utilities) and utilities[0] < utilities[-1] - 0.02


def test_a_point_fades_in_by_parts() -> None:
    assert part_of_key(5000.0, 1250.0) == 0.25 and part_of_key(5000.0, 1e6) == 1.0
    assert fading_in(0.9, 0.25) == pytest.approx(0.45) and fading_in(0.9, 1.0) == 0.9
    assert coarser_at_will(FLOW) and not coarser_at_will(PICTURE) and not coarser_at_will(ALONE)


def test_another_level_of_a_stream_is_told_from_those_that_are_known() -> None:
    known = (FLOW, COARSE, PICTURE, replace(FLOW, cut="d", payload_bytes=9e9))
    between = at_level(FLOW, 70, known)
    assert (between.level, between.name) == (70, FLOW.name)
    assert between.payload_bytes == pytest.approx((500 * 300) ** 0.5)
    assert between.key_bytes == pytest.approx((5000 * 2500) ** 0.5)
    assert COARSE.fidelity < between.fidelity < FLOW.fidelity
    assert at_level(FLOW, 80, known) is FLOW
    far = at_level(FLOW, 44, known)
    assert far.payload_bytes == pytest.approx(300 / 4) and far.fidelity == pytest.approx(0.92 / 4)
    assert at_level(FLOW, 72, ()).key_bytes == pytest.approx(2500), "nothing else is known"


def test_what_a_coarser_key_left_out_is_not_taken_for_what_frames_weigh() -> None:
    """A stream that fades in sends far more than it will: that must not make it look dear."""
    payloads = Payloads()
    small = replace(FLOW, level=60, key_bytes=2000.0, payload_bytes=100.0)
    payloads.on_sent(small, 2000, key=True, coarser=True)
    for _ in range(6):
        payloads.on_sent(small, 900, key=False, coarser=True)
    assert payloads.expected(FLOW) == 500 and payloads.expected(FLOW, key=True) == 5000
    payloads.on_sent(FLOW, 600, key=False)
    assert payloads.expected(FLOW) == pytest.approx(600)
    payloads.on_sent(small, 200, key=False, coarser=True)
    assert payloads.expected(FLOW) > 600, "from then on what is too large counts"


def test_a_scene_that_never_fits_is_believed_in_the_end() -> None:
    payloads = Payloads()
    small = replace(FLOW, level=60, key_bytes=2000.0, payload_bytes=100.0)
    payloads.on_sent(small, 2000, key=True, coarser=True)
    for _ in range(60):
        payloads.on_sent(small, 400, key=False, coarser=True)
    assert payloads.expected(FLOW) == pytest.approx(2000, rel=0.1)


def test_room_is_what_crosses_in_time() -> None:
    w = world(FLOW)
    now_ns = settled(w).now_ns

    def room(due_ms: float, *, key: bool = False) -> float:
        return w.room_bytes(FLOW, due_ms, now_ns, key=key)

    assert 1000 < room(350.0) < (350 - 80) * 8, "some of it is kept as a margin"
    assert room(350.0) < room(700.0) < room(1400.0)
    assert room(90.0) == room(0.0) == room(-50.0) > 0, "never nothing"
    assert room(90.0, key=True) > room(90.0), "a late key still serves what follows"
    before = room(350.0)
    w.link.on_sent("x", 1000, now_ns, remote_ms=0.0)
    assert room(350.0) == pytest.approx(before - 0.8 * 1000, rel=0.02), "what is under way goes first"


def test_while_the_rate_is_in_doubt_there_is_less_room() -> None:
    sure, unsure = world(FLOW), world(FLOW)
    now_ns = settled(sure).now_ns
    assert unsure.room_bytes(FLOW, 350.0, now_ns, key=True) < 0.9 * sure.room_bytes(FLOW, 350.0, now_ns, key=True)


def test_while_a_key_is_under_way_others_stand_in_and_are_not_held_to() -> None:
    w = world(FLOW, ALONE, bandwidth_bps=2e6, base_ms=20.0)
    policy = Adaptive()
    assert policy.decide(world=w, seen=SEEN).point is FLOW
    w.payloads.on_reference("temporal", "c", Reference.COMING)
    assert policy.decide(world=w, seen=SEEN).point.codec != "temporal"
    w.payloads.on_reference("temporal", "c", Reference.ALIVE)
    assert policy.decide(world=w, seen=SEEN).point is FLOW


def test_while_a_key_is_under_way_no_other_stream_begins() -> None:
    other = replace(FLOW, name="split/d/temporal-80", cut="d", fidelity=0.96)
    w = world(FLOW, other, bandwidth_bps=2e6, base_ms=20.0)
    policy = Adaptive(only="split")
    assert policy.decide(world=w, seen=SEEN).point is FLOW
    w.payloads.on_reference("temporal", "c", Reference.COMING)
    assert not policy.decide(world=w, seen=SEEN).point.remote
    w.payloads.on_reference("temporal", "d", Reference.ALIVE)
    assert policy.decide(world=w, seen=SEEN).point is other, "one that is open stands in"


def test_bytes_that_the_link_has_time_for_cost_nothing() -> None:
    """Half of a frame period on the link is free: a finer level is taken for the little that it is better."""
    finer = replace(FLOW, name="split/c/temporal-84", level=84, fidelity=0.972, payload_bytes=900.0)
    w = world(FLOW, finer, bandwidth_bps=200_000.0)
    w.payloads.on_reference("temporal", "c", Reference.ALIVE)
    assert Adaptive(only="split").decide(world=w, seen=settled(w)).point is finer


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
