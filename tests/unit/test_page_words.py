"""What the page says of a decision, and where it puts spans of processes whose clocks disagree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.gateway.page.waterfall import MAX_SPANS, PlacedSpan, waterfall
from splitmesh.gateway.page.words import decision_in_words, end_in_words, point_in_words
from splitmesh.v1 import control_pb2 as pb


def frame(**changes: object) -> pb.FrameReport:
    values: dict[str, object] = {
        "outcome": "split",
        "chosen": pb.Forecast(point="split/n37-64x19x19/temporal-83", predicted_ms=80, p_hit=0.97, utility=0.93),
        "reason": "utility 0.930 against 0.902 of frame/jpeg-50",
        "runners_up": [
            pb.Forecast(point="split/n37-64x19x19/temporal-60", predicted_ms=70, p_hit=0.98, utility=0.92),
            pb.Forecast(point="frame/jpeg-50", predicted_ms=104, p_hit=0.91, utility=0.902),
            pb.Forecast(point="local", predicted_ms=186, p_hit=0.07, utility=0.31),
            pb.Forecast(point="local/int8", predicted_ms=120, p_hit=0.6, utility=0.3),
        ],
        "deadline_ms": 150.0,
        "latency_ms": 88.0,
        "deadline_hit": True,
    }
    return pb.FrameReport(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("split/n37-64x19x19/temporal-83", "SPLIT@n37-64x19x19 temporal-83"),
        ("frame/jpeg-50", "FRAME jpeg-50"),
        ("local", "LOCAL"),
        ("local/int8", "LOCAL int8"),
        ("track", "TRACK"),
        ("split", "SPLIT"),
    ],
)
def test_points_read_as_decisions(name: str, says: str) -> None:
    assert point_in_words(name) == says


def test_a_decision_names_its_reason_and_the_best_of_every_other_place() -> None:
    assert decision_in_words(frame(), decided_after_ms=4.0) == [
        "SPLIT@n37-64x19x19 temporal-83 because utility 0.930 against 0.902 of frame/jpeg-50.",
        "FRAME jpeg-50 would have been in time with p=0.91 after 104 ms, worth 0.028 less.",
        "LOCAL would have missed by 40 ms with p=0.93.",
    ]


def test_without_spans_nobody_claims_by_how_much_a_rival_would_have_missed() -> None:
    assert decision_in_words(frame(), decided_after_ms=None)[2] == (
        "LOCAL would have missed with p=0.93: 186 ms were expected."
    )


def test_a_rival_that_is_expected_in_time_but_unlikely_to_be_is_not_said_to_miss_by_anything() -> None:
    rival = pb.Forecast(point="local", predicted_ms=100, p_hit=0.3, utility=0.2)
    assert decision_in_words(frame(runners_up=[rival]), decided_after_ms=4.0)[1] == (
        "LOCAL would have missed with p=0.70: 100 ms were expected."
    )


def test_a_rival_of_higher_utility_is_told_as_such() -> None:
    rival = pb.Forecast(point="track", predicted_ms=0.3, p_hit=1.0, utility=0.95)
    assert decision_in_words(frame(runners_up=[rival]), decided_after_ms=4.0)[1] == (
        "TRACK would have been in time with p=1.00 after 0.3 ms, worth 0.020 more by itself."
    )


def test_when_only_the_same_place_has_rivals_the_best_of_those_is_named() -> None:
    rivals = list(frame().runners_up)[:1]
    assert "temporal-60" in decision_in_words(frame(runners_up=rivals), decided_after_ms=4.0)[1]


def test_what_happened_on_the_way_is_told() -> None:
    assert decision_in_words(frame(note="timer"), decided_after_ms=4.0)[-1] == "On the way: timer."


def test_a_frame_that_was_dropped_was_not_decided() -> None:
    dropped = frame(outcome="shed", chosen=pb.Forecast(), latency_ms=None, deadline_hit=False)
    assert decision_in_words(dropped, decided_after_ms=None) == [
        "Nothing was decided: the frame was dropped before that."
    ]
    assert end_in_words(dropped) == "Dropped before a decision; no answer within 150 ms."


def test_the_end_is_held_against_the_deadline() -> None:
    assert end_in_words(frame()) == (
        "Head on the edge, tail on the worker; answered 88 ms after capture, in time with 62 ms to spare."
    )
    late = end_in_words(frame(outcome="resumed", latency_ms=171.0, deadline_hit=False))
    assert late == "The edge ran the tail itself, from the cut; answered 171 ms after capture, 21 ms too late."


def span(name: str, number: int, parent: int, start_ms: float, end_ms: float, host: str = "edge") -> pb.SpanReport:
    return pb.SpanReport(
        span_id=number.to_bytes(8, "big"),
        parent_id=parent.to_bytes(8, "big") if parent else b"",
        name=name,
        service="edge" if host == "edge" else "cloud",
        instance=host,
        start_unix_ns=round(start_ms * 1e6),
        end_unix_ns=round(end_ms * 1e6),
    )


EDGE = [span("frame", 1, 0, 100, 200), span("offload", 2, 1, 140, 190), span("decide", 3, 1, 110, 112)]


def named(placed: list[PlacedSpan]) -> dict[str, PlacedSpan]:
    return {each.span.name: each for each in placed}


@pytest.mark.parametrize("ahead_ms", [-5_000.0, -20.0, 45.0, 7_000.0])
def test_a_worker_whose_clock_is_off_is_put_into_the_middle_of_what_it_answered(ahead_ms: float) -> None:
    worker = [
        span("worker", 4, 2, 150 + ahead_ms, 170 + ahead_ms, "w"),
        span("tail", 5, 4, 155 + ahead_ms, 169 + ahead_ms, "w"),
    ]
    found = named(waterfall([*worker, *EDGE]))
    assert (found["worker"].start_ms, found["worker"].duration_ms) == (55, 20)
    assert found["tail"].start_ms == 60 and found["tail"].depth == 3
    assert found["worker"].moved_ms == found["tail"].moved_ms == pytest.approx(5 - ahead_ms)
    assert found["frame"].moved_ms == 0


def test_clocks_that_agree_are_left_alone() -> None:
    found = named(waterfall([*EDGE, span("worker", 4, 2, 141, 150, "w")]))
    assert (found["worker"].start_ms, found["worker"].moved_ms) == (41, 0)


def test_a_worker_may_end_after_an_offload_that_nobody_waited_for() -> None:
    given_up = pb.SpanReport()
    given_up.CopyFrom(EDGE[1])
    given_up.attributes["splitmesh.abandoned"] = "True"
    found = named(waterfall([EDGE[0], given_up, span("worker", 4, 2, 185, 240, "w")]))
    assert (found["worker"].start_ms, found["worker"].moved_ms) == (85, 0)
    early = named(waterfall([EDGE[0], given_up, span("worker", 4, 2, 90, 120, "w")]))
    assert early["worker"].start_ms == 40, "but not before it was asked"


def test_spans_are_a_tree_in_order_of_start() -> None:
    assert [(each.span.name, each.depth) for each in waterfall(EDGE)] == [("frame", 0), ("decide", 1), ("offload", 1)]


def test_nothing_gives_nothing() -> None:
    assert waterfall([]) == []


ids = st.integers(0, 5)
times = st.integers(-(2**40), 2**40)


@given(st.lists(st.tuples(ids, ids, times, times, st.sampled_from(["edge", "w-1", "w-2"])), max_size=12))
def test_whatever_spans_claim_of_each_other_they_are_placed_once_at_most_and_it_ends(
    rows: list[tuple[int, int, int, int, str]],
) -> None:
    spans = [span("s", number + 1, parent, start, end, host) for number, parent, start, end, host in rows]
    placed = waterfall(spans)
    assert len(placed) <= len(spans)
    assert all(each.duration_ms >= 0 for each in placed)


def test_a_flood_of_spans_is_cut() -> None:
    assert len(waterfall([span("s", n + 1, 0, n, n + 1) for n in range(5 * MAX_SPANS)])) == MAX_SPANS
