"""What holds after any history: nothing that leaves an estimator is NaN, infinite or out of its range, and what is
decided may be chosen. Workers may lie about their times as far as the wire lets them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.policy.base import Learner, Policy
from splitmesh.policy.baselines import make_policy
from splitmesh.policy.breaker import BreakerState
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.rivals.named import RIVALS
from splitmesh.policy.world import RemoteTimes, World

sys.path.append(str(Path(__file__).parent))
from rival_worlds import FLOW, LOCAL, MS, PICTURE, PLAIN, POINTS, SEEN, TRACK

POLICIES = ("adaptive", "only:split", "local-only", "cloud-only", "track", *RIVALS)
MOST_MS = float(2**64 - 1) / 1e3
"""No field of a reply holds a longer time. What the wire lets through is far less."""
EDGE = LOCAL.edge_ms
VIDEO = replace(PICTURE, name="frame/h264-24", codec="h264", level=24, payload_bytes=900, key_bytes=6_000)
LAVISH = (*POINTS, VIDEO, replace(VIDEO, name="frame/h264-38", level=38, payload_bytes=300, key_bytes=2_000))
PLANS = (LAVISH, PLAIN, (TRACK, LOCAL), (TRACK, LOCAL, PICTURE), (TRACK, LOCAL, FLOW))

stated_ms = st.sampled_from([0.0, 1e-3, 1.0, 20.0, 1e4, MOST_MS]) | st.floats(0, MOST_MS)
"""What a worker may say."""
measured_ms = st.sampled_from([0.0, 1e-6, 14.0, 84.0, 1e5]) | st.integers(0, 10**12).map(lambda ns: ns / MS)
"""What the edge's own clock may say: whole ns."""
clock_step_ms = st.sampled_from([0.0, 0.001, 1.0, 40.0, 40.0, 150.0, 2e3, 3.6e6, 1e9])
ages_ms = st.none() | st.sampled_from([0.0, 1e-3, 40.0]) | st.floats(0, 1e7)
events = st.one_of(
    st.tuples(
        st.just("frame"),
        st.fixed_dictionaries(
            {
                "budget_ms": st.sampled_from([148.0, 390.0]) | st.integers(-(10**9), 10**10).map(lambda ns: ns / MS),
                "device_backlog_ms": st.just(0.0) | st.floats(0, 1e4),
                "frame_period_ms": st.sampled_from([40.0, 100.0]) | st.floats(1, 1e4),
                "motion": st.floats(0, 1),
                "track_age_ms": ages_ms,
                "track_carried": st.floats(0, 1),
            }
        ),
        st.integers(0, 2**20),
        st.booleans(),
    ),
    st.tuples(st.just("reply"), st.integers(0, 12), st.tuples(*[stated_ms] * 4), st.sampled_from("ab")),
    st.tuples(st.just("lost"), st.integers(0, 12)),
    st.tuples(st.just("resent"), st.integers(0, 12), st.integers(0, 2**20)),
    st.tuples(st.just("time"), clock_step_ms),
    st.tuples(st.just("heartbeat"), stated_ms),
    st.tuples(st.just("device"), measured_ms, st.sampled_from([0.0, 1e-9, 0.01, EDGE])),
    st.tuples(st.just("encoded"), measured_ms),
    st.tuples(st.just("result"), st.sampled_from(Place), measured_ms, measured_ms),
    st.tuples(st.just("audit"), st.floats(-0.5, 1.5), st.floats(0, 1), ages_ms.filter(lambda age: age is not None)),
    st.tuples(st.just("reference"), st.sampled_from(Reference)),
    st.tuples(st.just("verdict"), st.booleans()),
)


class Run:
    """A policy in a world to which anything may happen."""

    def __init__(self, points: tuple[OperatingPoint, ...], policy: Policy) -> None:
        self.world = World(points, track_kappa=20)
        self.policy = policy
        self.now_ns = SEEN.now_ns
        self.sent: list[tuple[str, OperatingPoint]] = []
        self.decisions: list[Decision] = []
        self.world.on_heartbeat(self.now_ns, 0.0)
        for _ in range(2):
            self.world.breaker.on_success(self.now_ns)

    def happen(self, event: tuple[Any, ...]) -> None:
        match event:
            case "frame", fields, size_bytes, is_answered:
                self.now_ns += 40 * MS
                self.frame(Observation(now_ns=self.now_ns, **fields), size_bytes, is_answered=is_answered)
            case "reply", back, spent, worker if self.sent:
                key, point = self.sent[-1 - back % len(self.sent)]
                path_ms = self.world.on_reply(key, point, self.now_ns, worker, RemoteTimes(*spent))
                assert path_ms is None or math.isfinite(path_ms)
            case "lost", back if self.sent:
                self.world.link.on_lost(self.sent[-1 - back % len(self.sent)][0])
            case "resent", back, size_bytes if self.sent:
                self.world.on_sent(*self.sent[-1 - back % len(self.sent)], size_bytes, self.now_ns)
            case "time", step_ms:
                self.now_ns += int(step_ms * MS)
            case "heartbeat", wait_ms:
                self.world.on_heartbeat(self.now_ns, wait_ms)
            case "device", took_ms, profiled_ms:
                self.world.on_device(took_ms, profiled_ms, self.now_ns)
            case "encoded", took_ms:
                self.world.on_encoded(PICTURE, took_ms)
            case "result", place, actual_ms, predicted_ms:
                self.world.on_result(place, actual_ms, predicted_ms, self.now_ns)
            case "audit", f1, motion, age_ms:
                self.world.track.audit(f1, motion, age_ms)
            case "reference", reference:
                for point in self.world.points:
                    if point.key_bytes:
                        self.world.payloads.on_reference(point.codec, point.cut, reference)
            case "verdict", in_time:
                (self.world.breaker.on_success if in_time else self.world.breaker.on_miss)(self.now_ns)

    def frame(self, seen: Observation, size_bytes: int, *, is_answered: bool) -> None:
        w = self.world
        decision = self.policy.decide(world=w, seen=seen)
        self.decisions.append(decision)
        assert may_be_chosen(decision.point, w, seen, self.policy), (decision.point.name, decision.reason)
        for forecast in (decision.chosen, *decision.runners_up):
            assert math.isfinite(forecast.predicted_ms) and forecast.predicted_ms >= 0, forecast
            assert math.isfinite(forecast.utility), forecast
            assert 0 <= forecast.p_hit <= 1, forecast
        assert decision.reason and "nan" not in decision.reason and "inf " not in decision.reason
        if decision.point.remote:
            key = f"sent-{len(self.sent)}"
            is_key = w.payloads.needs_key(decision.point)
            w.on_sent(key, decision.point, size_bytes, self.now_ns, is_key=is_key, coarser=not is_answered)
            self.sent.append((key, decision.point))
        if isinstance(self.policy, Learner):
            self.policy.settled(
                decision, latency_ms=float(size_bytes % 500), answered=is_answered, now_ns=self.now_ns
            )


def may_be_chosen(point: OperatingPoint, w: World, seen: Observation, policy: Policy) -> bool:
    """As the edge needs it. A static point has the tracker for a net only where there is something to track from."""
    if point not in w.points:
        return False
    if point.place is Place.TRACK:
        return seen.track_age_ms is not None
    if not point.remote:
        return True
    if policy.name == "cloud-only":
        return True
    if w.payloads.reference(point) is Reference.COMING or not w.breaker.closed:
        return False
    return point.place is Place.FRAME or w.resumable(point, seen)


def check_world(w: World, now_ns: int) -> None:
    """Every number that leaves `w` is finite and in its documented range."""
    view = w.link.view(now_ns)
    assert 1e4 * 0.999 <= view.bandwidth_bps <= 1e11 * 1.001
    assert 0.05 <= view.base_ms < math.inf
    assert view.backlog_bytes == w.link.in_flight_bytes >= 0
    assert 0 <= view.stalled_ms <= view.backlog_ms < math.inf
    moment = w.at(now_ns)
    for value in (w.gamma_edge.value, w.gamma_cloud, *moment.gamma_encode.values()):
        assert 0 < value < math.inf
    for name in set(moment._fields) - {"gamma_encode"}:
        assert 0 <= getattr(moment, name) < math.inf, (name, moment)
    seen = replace(SEEN, now_ns=now_ns)
    for point in w.points:
        ms = w.predicted_ms(point, seen)
        assert 0 <= ms < math.inf, point.name
        assert 0 <= w.p_hit(point, ms, seen) <= 1, point.name
        assert 0 <= w.remote_ms(point) < math.inf and 0 <= w.resume_q95_ms(point) < math.inf
        if point.remote:
            check_payloads(w, point, now_ns)
    for motion, age_ms in ((0.0, 0.0), (0.0, 1e-6), (0.03, 80.0), (1.0, 1e9), (0.5, None)):
        assert 0 <= w.track.a_track(motion, age_ms) <= 1, (motion, age_ms)
    assert w.breaker.state in BreakerState and w.breaker.reason


def check_payloads(w: World, point: OperatingPoint, now_ns: int) -> None:
    for key in (False, True) if point.key_bytes else (False,):
        calibrated = point.key_bytes if key else point.payload_bytes
        assert 0.0999 * calibrated <= w.payloads.expected(point, key=key) <= 10.001 * calibrated
        assert w.message_bytes(point, key=key) > w.payloads.expected(point, key=key)
        room = w.room_bytes(point, 100.0, now_ns, key=key)
        assert 64 <= room < math.inf
    assert 2 <= w.payloads.key_life_frames(point) <= 150
    lower = w.at_level(point, point.level - 8)
    assert 0 <= lower.fidelity <= 1 and 0 <= lower.payload_bytes < math.inf and 0 <= lower.key_bytes < math.inf


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=40)
@given(plan=st.sampled_from(PLANS), history=st.lists(events, min_size=8, max_size=50))
def test_after_any_history_all_figures_are_finite_and_the_choice_is_eligible(
    name: str, plan: tuple[OperatingPoint, ...], history: list[tuple[Any, ...]]
) -> None:
    needed = {"only:split": Place.SPLIT, "cloud-only": Place.FRAME}.get(name)
    points = plan if needed is None or any(point.place is needed for point in plan) else LAVISH
    run = Run(points, make_policy(name, points))
    for event in history:
        run.happen(event)
        check_world(run.world, run.now_ns)
    run.frame(replace(SEEN, now_ns=run.now_ns), 1000, is_answered=True)


def test_the_histories_reach_all_that_they_are_about() -> None:
    """Frames, replies and lies by hand: remote points are taken, a worker that lies is left, the breaker opens."""
    run = Run(LAVISH, make_policy("adaptive", LAVISH))
    fields = {
        "budget_ms": 148.0,
        "device_backlog_ms": 0.0,
        "frame_period_ms": 40.0,
        "track_age_ms": 80.0,
        "motion": 0.03,
    }
    for index in range(200):
        run.happen(("device", 840.0, EDGE))
        run.happen(("frame", fields, 1500, True))
        run.happen(("time", 20.0))
        run.happen(("reply", 0, (0.0, 0.5, 8.0, 0.0), "a"))
        run.happen(("reference", Reference.ALIVE))
        run.happen(("heartbeat", 0.0 if index < 150 else MOST_MS))
        check_world(run.world, run.now_ns)
    places = [decision.point.place for decision in run.decisions]
    assert places[:150].count(Place.FRAME) >= 100
    assert set(places[-20:]) <= {Place.LOCAL, Place.TRACK}, "nobody waits for such a worker"
    run.happen(("time", 3.6e6))
    run.frame(replace(SEEN, now_ns=run.now_ns), 1000, is_answered=True)
    assert run.world.breaker.state is BreakerState.OPEN


ENTRIES: dict[str, Callable[[World, float, int], object]] = {
    "queue": lambda w, x, now_ns: w.on_reply("k", PICTURE, now_ns, "a", RemoteTimes(x, 1, 8, 0)),
    "decode": lambda w, x, now_ns: w.on_reply("k", PICTURE, now_ns, "a", RemoteTimes(1, x, 8, 0)),
    "service": lambda w, x, now_ns: w.on_reply("k", PICTURE, now_ns, "a", RemoteTimes(1, 1, x, 0)),
    "postprocess": lambda w, x, now_ns: w.on_reply("k", PICTURE, now_ns, "a", RemoteTimes(1, 1, 8, x)),
    "heartbeat": lambda w, x, now_ns: w.on_heartbeat(now_ns, x),
    "device": lambda w, x, now_ns: w.on_device(x, EDGE, now_ns),
    "profile": lambda w, x, now_ns: w.on_device(EDGE, x, now_ns),
    "encoded": lambda w, x, now_ns: w.on_encoded(PICTURE, x),
    "actual": lambda w, x, now_ns: w.on_result(Place.FRAME, x, 100, now_ns),
    "predicted": lambda w, x, now_ns: w.on_result(Place.FRAME, 100, x, now_ns),
    "f1": lambda w, x, now_ns: w.track.audit(x, 0.1, 80),
    "motion": lambda w, x, now_ns: w.track.audit(0.9, x, 80),
    "age": lambda w, x, now_ns: w.track.audit(0.9, 0.1, x),
}
"""Each number that a world is told, the other numbers being sane."""


@pytest.mark.parametrize("x", [math.nan, math.inf, -5.0])
@pytest.mark.parametrize("name", ENTRIES)
def test_what_is_no_time_at_all_is_not_learnt(name: str, x: float) -> None:
    w = Run(POINTS, make_policy("adaptive", POINTS)).world
    w.on_sent("k", PICTURE, 2000, SEEN.now_ns)
    for _ in range(2):
        ENTRIES[name](w, x, SEEN.now_ns + 50 * MS)
        check_world(w, SEEN.now_ns + 50 * MS)
