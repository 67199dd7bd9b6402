"""What must grow or fall together, and the uplink budget: a policy that gets these wrong is wrong everywhere."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.policy.adaptive import Adaptive
from splitmesh.policy.estimators import LatenessEstimator
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint
from splitmesh.policy.world import RemoteTimes, World

sys.path.append(str(Path(__file__).parent))
from rival_worlds import FLOW, MS, PICTURE, PLAIN, POINTS, SEEN, world

REMOTE = tuple(point for point in POINTS if point.remote)
MOST_GAIN = 1.1
"""Of utility, by which a remote point can be ahead of the tracker: a fidelity of 1, fresh, against 0."""
BYTE_PRICE = 0.06
"""`policy.worth` charges this for a message of one frame's income while one frame's income is owed."""
ROUNDING = 1e-9

sizes_bytes = st.lists(st.integers(200, 60_000), min_size=1, max_size=40)
clock_ms = st.integers(-(10**8), 10**10).map(lambda ns: ns / MS)
"""Budgets come of a clock of whole ns."""
lateness = st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4), st.integers(0, 2_000)), max_size=80)


def crossed(sizes: list[int], ms_per_kb: float, base_ms: float) -> World:
    """A world whose messages have crossed a link one after the other, each `base_ms + size × ms_per_kb` long."""
    w = World(POINTS, track_kappa=20)
    sent_ns = SEEN.now_ns - 4000 * 1000 * MS
    for index, size in enumerate(sizes):
        w.on_sent(str(index), PICTURE, size, sent_ns, message_bytes=size)
        took_ms = base_ms + size / 1e3 * ms_per_kb + 8.0
        w.on_reply(str(index), PICTURE, sent_ns + int(took_ms * MS), "a", RemoteTimes(0, 0, 8.0, 0))
        sent_ns += 100_000 * MS
    return w


@settings(max_examples=300)
@given(
    sizes=sizes_bytes,
    ms_per_kb=st.floats(0.01, 100),
    base_ms=st.floats(0.1, 300),
    share=st.floats(0.05, 1),
)
def test_a_faster_link_never_makes_the_predicted_time_longer(
    sizes: list[int], ms_per_kb: float, base_ms: float, share: float
) -> None:
    slow, fast = crossed(sizes, ms_per_kb, base_ms), crossed(sizes, share * ms_per_kb, share * base_ms)
    for point in POINTS:
        longest = slow.predicted_ms(point, SEEN)
        assert fast.predicted_ms(point, SEEN) <= longest * 1.000001, point.name


@settings(max_examples=100)
@given(
    sent=st.lists(st.tuples(st.sampled_from(REMOTE), st.integers(1, 60_000), st.booleans()), max_size=40),
    more=st.floats(1, 8),
)
def test_larger_payloads_are_never_predicted_to_take_less(
    sent: list[tuple[OperatingPoint, int, bool]], more: float
) -> None:
    small, large = world(POINTS), world(POINTS)
    for index, (point, size, is_key) in enumerate(sent):
        key = is_key and bool(point.key_bytes)
        for w, factor in ((small, 1.0), (large, more)):
            w.on_sent(f"sent-{index}", point, round(size * factor), SEEN.now_ns - MS, is_key=key)
    for point in REMOTE:
        for key in (False, True) if point.key_bytes else (False,):
            assert large.message_bytes(point, key=key) >= small.message_bytes(point, key=key) - ROUNDING
            assert large.predicted_ms(point, SEEN, key=key) >= small.predicted_ms(point, SEEN, key=key) - ROUNDING
        heavier = replace(point, payload_bytes=more * point.payload_bytes, key_bytes=more * point.key_bytes)
        assert small.predicted_ms(heavier, SEEN) >= small.predicted_ms(point, SEEN) - ROUNDING


@settings(max_examples=200)
@given(
    history=lateness,
    predicted_ms=st.floats(0, 1e4),
    budgets_ms=st.tuples(clock_ms, clock_ms),
    longer=st.floats(1, 10),
    waited_ms=st.floats(0, 1e5),
)
def test_neither_a_smaller_deadline_nor_a_longer_prediction_raises_the_chance(
    history: list[tuple[float, float, int]],
    predicted_ms: float,
    budgets_ms: tuple[float, float],
    longer: float,
    waited_ms: float,
) -> None:
    late = LatenessEstimator()
    now_ns = SEEN.now_ns
    for actual, predicted, gap_ms in history:
        now_ns += gap_ms * MS
        late.observe(actual, predicted, now_ns)
    now_ns += int(waited_ms * MS)
    less, more = sorted(budgets_ms)
    chance = late.p_within(predicted_ms, more, now_ns)
    assert late.p_within(predicted_ms, less, now_ns) <= chance + ROUNDING
    assert late.p_within(predicted_ms * longer, more, now_ns) <= chance + ROUNDING
    assert 0 <= chance <= 1


@settings(max_examples=60)
@given(
    budget_bps=st.floats(3e4, 3e6),
    period_ms=st.sampled_from([33.3, 40.0, 100.0, 500.0]),
    gamma=st.floats(0.5, 20),
    bps=st.floats(5e5, 1e8),
    motions=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    points=st.sampled_from([PLAIN, POINTS]),
)
def test_the_uplink_budget_holds_but_for_a_bounded_burst(
    budget_bps: float,
    period_ms: float,
    gamma: float,
    bps: float,
    motions: list[float],
    points: tuple[OperatingPoint, ...],
) -> None:
    """Bound: budget × time + (1.1 / 0.06) frames' income + the largest message.

    A message of s bytes costs `0.06·debt·s / income²` of utility, with the income of one frame. Where the tracker can
    stand in, none is sent that costs more than 1.1, and only one larger than the income lets the debt grow: so it is
    at most 18.4 incomes before one, and never more than that message above it after.
    """
    w = world(points, gamma=gamma, bps=bps)
    policy = Adaptive(uplink_budget_bps=budget_bps)
    income = budget_bps / 8 * period_ms / 1000
    spent = largest = 0.0
    now_ns = SEEN.now_ns
    for frame in range(1, 250):
        now_ns += int(period_ms * MS)
        seen = replace(SEEN, now_ns=now_ns, frame_period_ms=period_ms, motion=motions[frame % len(motions)])
        point = policy.decide(world=w, seen=seen).point
        w.on_heartbeat(now_ns, 0.0)
        w.breaker.on_success(now_ns)
        if not point.remote:
            continue
        is_key = w.payloads.needs_key(point)
        size = w.message_bytes(point)
        spent += size
        largest = max(largest, size)
        w.on_sent(str(frame), point, round(w.payloads.expected(point, key=is_key)), now_ns, is_key=is_key)
        arrived_ns = now_ns + int((10 + size * 8e3 / bps) * MS)
        w.on_reply(str(frame), point, arrived_ns, "a", RemoteTimes(0, point.decode_ms, point.cloud_ms, 0))
        if point.key_bytes:
            w.payloads.on_reference(FLOW.codec, FLOW.cut, Reference.ALIVE)
        assert spent <= income * frame + MOST_GAIN / BYTE_PRICE * income + largest, frame


def test_without_a_budget_that_much_would_be_spent() -> None:
    """The test above is not true of any policy: what is free is taken."""
    spent = {}
    for budget_bps in (None, 1e5):
        w, policy = world(PLAIN, gamma=20), Adaptive(uplink_budget_bps=budget_bps)
        spent[budget_bps] = 0.0
        for frame in range(250):
            now_ns = SEEN.now_ns + frame * 40 * MS
            w.breaker.on_success(now_ns)
            point = policy.decide(world=w, seen=replace(SEEN, now_ns=now_ns, motion=0.3)).point
            spent[budget_bps] += w.message_bytes(point) if point.remote else 0.0
    allowed = 1e5 / 8 * 10 + MOST_GAIN / BYTE_PRICE * 500 + 60_000
    assert spent[1e5] <= allowed < spent[None]
