"""What every rival keeps to, whatever the world is like: an eligible point, a reason, finite figures."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.policy.base import Learner, Policy
from splitmesh.policy.baselines import make_policy
from splitmesh.policy.decision import Decision, Observation
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import Place
from splitmesh.policy.rivals.named import RIVALS
from splitmesh.policy.world import World

sys.path.append(str(Path(__file__).parent))
from rival_worlds import FLOW, LOCAL, MS, PICTURE, PLAIN, POINTS, SEEN, TRACK, world

PLANS = (POINTS, PLAIN, (TRACK, LOCAL), (TRACK, LOCAL, PICTURE), (TRACK, LOCAL, FLOW))


def eligible(decision: Decision, w: World, seen: Observation) -> bool:
    point = decision.point
    if point not in w.points:
        return False
    if point.place is Place.TRACK:
        return seen.track_age_ms is not None
    if point.remote:
        comes = w.payloads.reference(point) is Reference.COMING
        return w.breaker.closed and not comes and (point.place is Place.FRAME or w.resumable(point, seen))
    return True


def told(policy: Policy, decision: Decision, latency_ms: float, now_ns: int) -> None:
    if isinstance(policy, Learner):
        policy.settled(decision, latency_ms=latency_ms, answered=latency_ms < 150, now_ns=now_ns)


@pytest.mark.parametrize("name", [*RIVALS, "track"])
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_whatever_happens_the_choice_is_eligible_and_its_figures_finite(name: str, data: st.DataObject) -> None:
    points = data.draw(
        st.sampled_from([POINTS, PLAIN, (TRACK, LOCAL), (TRACK, LOCAL, PICTURE), (TRACK, LOCAL, FLOW)])
    )
    w = world(points, gamma=data.draw(st.floats(0.2, 40)), bps=data.draw(st.floats(2e4, 1e9)))
    policy = make_policy(name, points)
    now_ns = SEEN.now_ns
    for index in range(12):
        now_ns += data.draw(st.integers(1, 2_000)) * MS
        seen = replace(
            SEEN,
            now_ns=now_ns,
            budget_ms=data.draw(st.floats(-20, 500)),
            device_backlog_ms=data.draw(st.floats(0, 300)),
            frame_period_ms=data.draw(st.floats(5, 500)),
            motion=data.draw(st.floats(0, 1)),
            track_age_ms=data.draw(st.none() | st.floats(0, 5_000)),
        )
        reference = data.draw(st.sampled_from(Reference))
        w.payloads.on_reference("temporal", "mid", reference)
        decision = policy.decide(world=w, seen=seen)
        assert eligible(decision, w, seen), (decision.point.name, decision.reason)
        assert decision.reason
        for forecast in (decision.chosen, *decision.runners_up):
            assert math.isfinite(forecast.predicted_ms) and math.isfinite(forecast.utility)
            assert 0 <= forecast.p_hit <= 1
        if decision.point.remote:
            w.on_sent(str(index), decision.point, round(decision.point.payload_bytes), now_ns)
        match data.draw(st.sampled_from(["answer", "miss", "silence"])):
            case "answer":
                w.on_heartbeat(now_ns, 1.0)
                w.breaker.on_success(now_ns)
                w.link.on_delivered(str(index), now_ns + 20 * MS, remote_ms=1.0)
            case "miss":
                w.breaker.on_miss(now_ns)
        told(policy, decision, data.draw(st.floats(0, 400)), now_ns)
