"""What the policies choose, in tables of situations; and what the fallback and the probes do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from splitmesh.errors import ModelError, SettingsError
from splitmesh.policy.adaptive import Adaptive
from splitmesh.policy.baselines import make_policy
from splitmesh.policy.decision import Observation
from splitmesh.policy.fallback import Fallback, choose_fallback
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.probe import ProbeSchedule
from splitmesh.policy.world import RemoteTimes, World

MS = 1_000_000
TRACK = OperatingPoint("track", Place.TRACK, 1.0)
LOCAL = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=14)
FINE = OperatingPoint("split/mid/u8zstd-5", Place.SPLIT, 0.99, "mid", "u8zstd", 5, 5.6, 0.5, 13_000, 0.3, 8.5, 8.5)
COARSE = replace(FINE, name="split/mid/u8zstd-3", level=3, fidelity=0.83, payload_bytes=7_000)
PICTURE = OperatingPoint("frame/jpeg-95", Place.FRAME, 0.91, "", "jpeg", 95, 0, 0.7, 24_000, 0.7, 14)
SMALL = replace(PICTURE, name="frame/jpeg-30", level=30, fidelity=0.53, payload_bytes=4_800)
POINTS = (TRACK, LOCAL, FINE, COARSE, PICTURE, SMALL)
SEEN = Observation(
    now_ns=10**12, budget_ms=148, device_backlog_ms=0, frame_period_ms=40, motion=0.03, track_age_ms=80
)


def world(*, gamma: float = 6.0, bps: float = 1e7, base_ms: float = 25.0, breaker_closed: bool = True) -> World:
    """A world that has seen enough to be sure of itself."""
    w = World(POINTS, track_kappa=100)
    for _ in range(10):
        w.on_device(14 * gamma, 14, SEEN.now_ns)
    now_ns = SEEN.now_ns - 60_000 * MS
    for index in range(60):
        size = (13_000, 7_000, 24_000)[index % 3]
        key = str(index)
        total_ms = base_ms + size * 8 / bps * 1e3 + 9
        w.on_sent(key, replace(FINE, payload_bytes=size), size, now_ns)
        now_ns += int(total_ms * MS)
        w.on_reply(key, FINE, now_ns, "worker", RemoteTimes(0.2, 0.3, 8.5, 0))
    for place in (Place.LOCAL, Place.SPLIT, Place.FRAME):
        for _ in range(30):
            w.on_result(place, 100, 100, SEEN.now_ns)
    if breaker_closed:
        w.breaker.on_success(SEEN.now_ns - 2 * MS)
        w.breaker.on_success(SEEN.now_ns - 1 * MS)
    return w


SITUATIONS = {
    "idle and fast device": (lambda: world(gamma=1), SEEN, "local"),
    "slow device, good link": (world, replace(SEEN, device_backlog_ms=20), FINE.name),
    "slow device is full": (world, replace(SEEN, device_backlog_ms=110), PICTURE.name),
    "device full, poor link": (lambda: world(bps=3e5), replace(SEEN, device_backlog_ms=110), "track"),
    "poor link": (lambda: world(bps=4e5), SEEN, "local"),
    "breaker open": (lambda: world(breaker_closed=False), SEEN, "local"),
    "breaker open, device full": (lambda: world(breaker_closed=False), replace(SEEN, device_backlog_ms=120), "track"),
    "nothing to track from": (
        lambda: world(bps=3e5),
        replace(SEEN, device_backlog_ms=40, track_age_ms=None),
        "local",
    ),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_adaptive(name: str) -> None:
    make_world, seen, expected = SITUATIONS[name]
    decision = Adaptive().decide(world=make_world(), seen=seen)
    assert decision.point.name == expected, (decision.reason, [f.to_json() for f in decision.runners_up])


def test_over_a_link_of_unknown_rate_nothing_large_is_sent() -> None:
    """Five pictures of 24 kB would keep a link of 64 kbit/s busy for 15 s."""
    w = World((TRACK, LOCAL, PICTURE), track_kappa=5)
    for _ in range(2):
        w.breaker.on_success(SEEN.now_ns - MS)
    decision = Adaptive().decide(world=w, seen=replace(SEEN, budget_ms=390, device_backlog_ms=300))
    assert decision.point.name == "track"
    picture = next(f for f in decision.runners_up if f.point is PICTURE)
    assert picture.predicted_ms < 100 and picture.p_hit < 0.1


def test_a_decision_says_why_and_what_else_there_was() -> None:
    decision = Adaptive().decide(world=world(), seen=SEEN)
    assert decision.chosen.point is decision.point
    assert "utility" in decision.reason
    assert decision.runners_up
    assert decision.point.name not in {f.point.name for f in decision.runners_up}
    utilities = [f.utility for f in decision.runners_up]
    assert utilities == sorted(utilities, reverse=True)
    assert 0 <= decision.chosen.p_hit <= 1


def test_the_reason_names_the_open_breaker() -> None:
    decision = Adaptive().decide(world=world(breaker_closed=False), seen=SEEN)
    assert "breaker" in decision.reason


def test_a_stalled_link_is_left_at_once() -> None:
    w = world()
    seen = replace(SEEN, device_backlog_ms=20)
    policy = Adaptive()
    assert policy.decide(world=w, seen=seen).point.remote
    w.on_sent("stuck", FINE, 13_000, SEEN.now_ns)
    w.breaker.on_alive(SEEN.now_ns + 190 * MS)
    later = replace(seen, now_ns=SEEN.now_ns + 200 * MS)
    decision = policy.decide(world=w, seen=later)
    assert not decision.point.remote
    assert "stalled" in decision.reason


def test_a_cut_whose_tail_would_not_fit_any_more_is_not_eligible() -> None:
    seen = replace(SEEN, device_backlog_ms=75)  # head done at 109 ms, tail of 51 ms must start before 90 ms
    decision = Adaptive().decide(world=world(), seen=seen)
    considered = {decision.point.name, *(f.point.name for f in decision.runners_up)}
    assert FINE.name not in considered


def test_remote_points_change_only_after_some_frames() -> None:
    policy = Adaptive()
    good = world()
    seen = replace(SEEN, device_backlog_ms=15)
    assert policy.decide(world=good, seen=seen).point is FINE
    tight = replace(seen, budget_ms=128, device_backlog_ms=0)
    chosen = [policy.decide(world=world(bps=2.6e6), seen=tight).point.name for _ in range(8)]
    remote = [name for name in chosen if "/" in name]
    assert all(name == FINE.name for name in remote[:2])


def test_an_uplink_budget_is_kept_on_average() -> None:
    seen = replace(SEEN, device_backlog_ms=30)
    spent = {}
    for budget_bps in (None, 400_000.0):
        policy = Adaptive(uplink_budget_bps=budget_bps)
        w = world()
        sent = [policy.decide(world=w, seen=seen).point.payload_bytes for _ in range(400)]
        spent[budget_bps] = sum(sent) * 8 / (400 * 0.040)
    assert spent[None] > 1.5e6
    assert spent[400_000.0] < 500_000


@pytest.mark.parametrize("name", ["local-only", "local"])
def test_local_only_tracks_what_it_cannot_make(name: str) -> None:
    policy = make_policy(name, POINTS)
    assert policy.name == "local-only"
    w = world()
    assert policy.decide(world=w, seen=SEEN).point is LOCAL
    assert policy.decide(world=w, seen=replace(SEEN, device_backlog_ms=100)).point is TRACK
    nothing = replace(SEEN, device_backlog_ms=100, track_age_ms=None)
    assert policy.decide(world=w, seen=nothing).point is LOCAL


def test_a_device_too_slow_for_the_deadline_still_refreshes_the_tracker() -> None:
    w = world(gamma=30)  # local takes 420 ms
    assert make_policy("local-only", POINTS).decide(world=w, seen=SEEN).point is LOCAL
    dead = world(gamma=30, breaker_closed=False)
    stale = replace(SEEN, track_age_ms=600)
    assert Adaptive().decide(world=dead, seen=stale).point is LOCAL


INT8 = OperatingPoint("local/int8", Place.LOCAL, 0.95, edge_ms=7, variant="int8")
LITTLE = OperatingPoint("local/small", Place.LOCAL, 0.8, edge_ms=2, variant="small")


def varied(gamma: float) -> World:
    """No link, a device `gamma` times slower than profiled, and models that stand in for the whole one."""
    w = World((TRACK, LOCAL, INT8, LITTLE), track_kappa=100)
    for _ in range(10):
        w.on_device(14 * gamma, 14, SEEN.now_ns)
    for _ in range(30):
        w.on_result(Place.LOCAL, 100, 100, SEEN.now_ns)
    return w


@pytest.mark.parametrize(("gamma", "expected"), [(1, "local"), (8, "local"), (16, "local/int8"), (60, "local/small")])
def test_local_only_takes_the_most_faithful_model_that_makes_it(gamma: float, expected: str) -> None:
    policy = make_policy("local-only", varied(gamma).points)
    assert policy.decide(world=varied(gamma), seen=SEEN).point.name == expected


@pytest.mark.parametrize(("gamma", "expected"), [(1, "local"), (16, "local/int8"), (60, "local/small")])
def test_adaptive_trades_fidelity_for_the_deadline(gamma: float, expected: str) -> None:
    seen = replace(SEEN, motion=0.2)
    decision = Adaptive().decide(world=varied(gamma), seen=seen)
    assert decision.point.name == expected, (decision.reason, [f.to_json() for f in decision.runners_up])


def test_what_was_tracked_from_a_poor_answer_is_worth_less() -> None:
    calm = replace(SEEN, motion=0.0, track_age_ms=40, device_backlog_ms=100)
    assert Adaptive().decide(world=varied(8), seen=calm).point.name == "track"
    assert Adaptive().decide(world=varied(8), seen=replace(calm, track_carried=0.5)).point.place is Place.LOCAL


def test_a_variant_can_be_asked_for_by_name() -> None:
    w = varied(1)
    policy = make_policy("static:local/int8", w.points)
    assert policy.name == "static:local/int8" and policy.decide(world=w, seen=SEEN).point is INT8
    busy = replace(SEEN, device_backlog_ms=300)
    assert policy.decide(world=w, seen=busy).point is TRACK


def test_cloud_only_sends_the_best_picture_whatever_the_link() -> None:
    policy = make_policy("cloud-only", POINTS)
    assert policy.name == "cloud-only"
    assert policy.decide(world=world(bps=2e5), seen=SEEN).point is PICTURE


def test_static_keeps_its_point_until_its_own_queue_is_full() -> None:
    policy = make_policy(f"static:{FINE.name}", POINTS)
    w = world()
    assert policy.decide(world=w, seen=SEEN).point is FINE
    assert policy.decide(world=w, seen=replace(SEEN, device_backlog_ms=140)).point is TRACK
    for index in range(40):
        w.on_sent(f"x{index}", FINE, 13_000, SEEN.now_ns)
    assert policy.decide(world=w, seen=SEEN).point is TRACK


@pytest.mark.parametrize(("name", "says"), [("greedy", "adaptive"), ("static:nope", "frame/jpeg-95")])
def test_unknown_policies_are_refused_with_what_there_is(name: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_policy(name, POINTS)
    assert caught.value.key == "policy"
    assert says in str(caught.value)


def test_a_plan_without_local_is_refused() -> None:
    with pytest.raises(ModelError, match="local"):
        World((TRACK, FINE), track_kappa=1)


def fallback(
    w: World, *, elapsed_ms: float, backlog_ms: float = 0, refused: bool = False, stalled: bool = False
) -> Fallback:
    now_ns = SEEN.now_ns + int(elapsed_ms * MS)
    w.on_sent("this", FINE, 13_000, SEEN.now_ns + 40 * MS)
    w.breaker.on_alive(now_ns)
    if stalled:
        now_ns += 100 * MS
    return choose_fallback(
        FINE,
        w,
        now_ns=now_ns,
        elapsed_ms=elapsed_ms,
        budget_ms=148,
        predicted_ms=90,
        device_backlog_ms=backlog_ms,
        a_track=0.5,
        refused=refused,
    ).kind


def test_the_timer_waits_for_a_reply_that_is_due() -> None:
    assert fallback(world(), elapsed_ms=80) is Fallback.WAIT


def test_the_timer_resumes_when_the_link_stalls() -> None:
    assert fallback(world(), elapsed_ms=80, stalled=True) is Fallback.RESUME


def test_nothing_is_resumed_that_will_hardly_make_it_though_nothing_else_comes_either() -> None:
    """Over a stalled link, with a good tracker: the tail's one chance in a hundred is not worth the device's time."""
    w = world(gamma=8)
    w.on_sent("this", FINE, 13_000, SEEN.now_ns + 40 * MS)
    now_ns = SEEN.now_ns + 170 * MS
    w.breaker.on_alive(now_ns)
    for remaining_ms, kind in ((75, Fallback.WAIT), (140, Fallback.RESUME)):
        choice = choose_fallback(
            FINE, w, now_ns=now_ns, elapsed_ms=70, budget_ms=70 + remaining_ms, predicted_ms=90,
            device_backlog_ms=20, a_track=0.8, refused=False,
        )  # fmt: skip
        assert choice.kind is kind, choice.reason


def test_a_refusal_resumes_at_once() -> None:
    assert fallback(world(), elapsed_ms=50, refused=True) is Fallback.RESUME


def test_the_timer_waits_when_the_device_could_not_make_it_anyway() -> None:
    assert fallback(world(), elapsed_ms=100, backlog_ms=90) is Fallback.WAIT


def test_probes_are_rare_while_replies_teach_enough_and_when_the_breaker_is_open() -> None:
    probes = ProbeSchedule()
    w = world()
    w.last_sample_ns = SEEN.now_ns
    assert not probes.due(w, 4_800, SEEN.now_ns + 500 * MS)
    at_ns = SEEN.now_ns + 1_500 * MS
    assert probes.due(w, 4_800, at_ns)
    probes.sent(at_ns)
    assert not probes.due(w, 4_800, at_ns + 60_000 * MS), "one at a time"
    probes.back()
    assert not probes.due(w, 4_800, at_ns + 100 * MS)
    assert probes.due(w, 4_800, at_ns + 2_100 * MS)


def test_probes_spend_at_most_a_hundredth_of_a_fast_link() -> None:
    probes = ProbeSchedule()
    w = world(bps=1e7)
    sent_bytes = 0
    start_ns = w.last_sample_ns + 2_000 * MS
    for now_ns in range(start_ns, start_ns + 60_000 * MS, 10 * MS):
        if probes.due(w, 4_800, now_ns):
            probes.sent(now_ns)
            probes.back()
            sent_bytes += 4_800
    assert 0 < sent_bytes * 8 / 60 <= 0.012 * w.link.bandwidth_bps


def test_half_open_probes_come_quickly() -> None:
    probes = ProbeSchedule()
    w = world(breaker_closed=False)
    for now_ns in (SEEN.now_ns - 2000 * MS, SEEN.now_ns):
        w.breaker.tick(now_ns)
        w.breaker.on_alive(now_ns)
    assert "probing" in w.breaker.reason
    probes.sent(SEEN.now_ns)
    probes.back()
    assert probes.due(w, 4_800, SEEN.now_ns + 200 * MS)


def test_only_some_points_are_chosen_and_the_model_runs_here_only_without_them() -> None:
    held = make_policy("only:split", POINTS)
    assert held.name == "only:split"
    fast = world(gamma=1)
    assert Adaptive().decide(world=fast, seen=SEEN).point is LOCAL
    decision = held.decide(world=fast, seen=SEEN)
    assert decision.point is FINE
    assert {f.point.place for f in decision.runners_up} <= {Place.SPLIT, Place.TRACK}
    alone = make_policy("only:split", POINTS).decide(world=world(gamma=1, breaker_closed=False), seen=SEEN)
    assert alone.point is LOCAL
    full = replace(SEEN, device_backlog_ms=110)
    assert make_policy("only:frame/jpeg-95", POINTS).decide(world=world(), seen=full).point is PICTURE
    with pytest.raises(SettingsError, match="no remote operating point is called nonsense"):
        make_policy("only:nonsense", POINTS)


def test_a_resume_that_will_hardly_make_it_is_no_reason_not_to_wait() -> None:
    """The reply is all but certain, the tail likely late: it would only keep the device from the next frame."""
    w = world(gamma=8)
    choice = choose_fallback(
        replace(FINE, fidelity=0.85), w, now_ns=SEEN.now_ns, elapsed_ms=70, budget_ms=148, predicted_ms=90,
        device_backlog_ms=20, a_track=0.8, refused=False,
    )  # fmt: skip
    assert choice.kind is Fallback.WAIT, choice.reason
