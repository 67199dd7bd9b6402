"""The fleet's state: who is there, how they fare, and what is told of it. Time is a number."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from test_import_rule import IMPURE, imports

from splitmesh.errors import WireError
from splitmesh.gateway import fleet as fleet_module
from splitmesh.gateway.fleet import EDGE_GONE_MS, WORKER_GONE_MS, Fleet
from splitmesh.gateway.fleet_values import EdgeState, EventKind, Health, WorkerState
from splitmesh.wire.control import EdgeReport, LinkReport, report_from
from splitmesh.wire.messages import Heartbeat, HostedModel

S = 1_000_000_000
MS = 1_000_000


def report(seq: int = 0, **changes: Any) -> EdgeReport:
    known: dict[str, Any] = {
        "edge_id": "cam",
        "run_id": "r1",
        "seq": seq,
        "model": "ssd",
        "policy": "adaptive",
        "deadline_ms": 200.0,
        "run_s": float(seq),
        "captured": 25 * seq,
        "settled": {"split": 20 * seq, "tracked": 5 * seq},
        "decisions_5s": {"split": 100},
        "hit_rate_5s": 1.0,
        "breaker": "closed",
        "link": LinkReport(bandwidth_bps=2e6, base_ms=4.0),
        "uplink_bytes": 1000 * seq,
    }
    return EdgeReport(**(known | changes))


def beat(seq: int = 0, **changes: Any) -> Heartbeat:
    known: dict[str, Any] = {"worker_id": "w", "seq": seq, "models": (HostedModel("ssd", "0" * 64),)}
    return Heartbeat(**(known | changes))


def edge(fleet: Fleet, now_ns: int) -> EdgeState:
    (state,) = fleet.edges("t", now_ns)
    return state


def worker(fleet: Fleet, now_ns: int) -> WorkerState:
    (state,) = fleet.workers("t", now_ns)
    return state


def kinds(fleet: Fleet, tenant: str = "t") -> list[EventKind]:
    return [event.kind for event in fleet.events(tenant, limit=20_000)]


def test_an_edge_joins_reports_and_goes() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(0), 0)
    fleet.on_report("t", report(1), S)
    fleet.advance(2 * S)
    assert edge(fleet, 2 * S).health is Health.ALIVE
    silent_ns = S + round(EDGE_GONE_MS * MS) + 1
    fleet.advance(silent_ns)
    assert edge(fleet, silent_ns).health is Health.GONE
    fleet.on_report("t", report(9), 20 * S)
    assert edge(fleet, 20 * S).health is Health.ALIVE
    assert kinds(fleet) == [EventKind.EDGE_JOINED, EventKind.EDGE_GONE, EventKind.EDGE_BACK]
    assert edge(fleet, 20 * S).missed_reports == 7


def test_a_killed_worker_is_gone_within_two_seconds() -> None:
    fleet = Fleet()
    for n in range(10):
        fleet.on_heartbeat("t", beat(n), n * 200 * MS)
    last_ns = 9 * 200 * MS
    gone_ns = None
    for now_ns in range(last_ns, last_ns + 3 * S, 200 * MS):
        fleet.advance(now_ns)
        if worker(fleet, now_ns).health is Health.GONE:
            gone_ns = now_ns
            break
        assert worker(fleet, now_ns).health is (Health.ALIVE if now_ns - last_ns <= 500 * MS else Health.DEGRADED)
    assert gone_ns is not None and gone_ns - last_ns <= 2 * S
    fleet.on_heartbeat("t", beat(10), last_ns + 5 * S)
    assert worker(fleet, last_ns + 5 * S).health is Health.ALIVE
    assert kinds(fleet) == [EventKind.WORKER_JOINED, EventKind.WORKER_GONE, EventKind.WORKER_BACK]


def test_silence_shows_before_anybody_advanced_the_fleet() -> None:
    fleet = Fleet()
    fleet.on_heartbeat("t", beat(), 0)
    fleet.on_report("t", report(), 0)
    assert worker(fleet, round((WORKER_GONE_MS + 1) * MS)).health is Health.GONE
    assert edge(fleet, round((EDGE_GONE_MS + 1) * MS)).health is Health.GONE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"breaker": "open"}, "breaker open"),
        ({"breaker": "half-open"}, "breaker half-open"),
        ({"hit_rate_5s": 0.5}, "50% in time over the last 5 s"),
    ],
)
def test_a_degraded_edge_says_why(changes: dict[str, Any], why: str) -> None:
    fleet = Fleet()
    fleet.on_report("t", report(0), 0)
    fleet.on_report("t", report(1, **changes), S)
    assert (edge(fleet, S).health, edge(fleet, S).why) == (Health.DEGRADED, why)


def test_an_edge_that_uses_no_cloud_is_alive_with_an_open_breaker() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(policy="local-only", breaker="open"), 0)
    assert edge(fleet, 0).health is Health.ALIVE


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"draining": True}, "draining"), ({"predicted_wait_us": 250_000}, "a request would wait 250 ms")],
)
def test_a_degraded_worker_says_why(changes: dict[str, Any], why: str) -> None:
    fleet = Fleet()
    fleet.on_heartbeat("t", beat(0), 0)
    fleet.on_heartbeat("t", beat(1, **changes), 200 * MS)
    assert (worker(fleet, 200 * MS).health, worker(fleet, 200 * MS).why) == (Health.DEGRADED, why)


def test_a_worker_that_drained_is_no_alarm() -> None:
    fleet = Fleet()
    fleet.on_heartbeat("t", beat(0), 0)
    fleet.on_heartbeat("t", beat(1, draining=True, queue_depth=3), 0)
    fleet.advance(2 * S)
    assert worker(fleet, 2 * S).why == "drained"
    assert [e.detail for e in fleet.events("t")[1:]] == ["3 requests wait there", "drained"]


def test_what_changed_between_two_reports_is_told_once() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(0), 0)
    fleet.on_report("t", report(1, breaker="open"), S)
    fleet.on_report("t", report(2, breaker="open"), 2 * S)
    fleet.on_report("t", report(3, breaker="half-open"), 3 * S)
    fleet.on_report("t", report(4), 4 * S)
    fleet.on_report("t", report(5, policy="track", deadline_ms=100.0, uplink_budget_bps=5e5), 5 * S)
    assert kinds(fleet) == [
        EventKind.EDGE_JOINED,
        EventKind.BREAKER_OPENED,
        EventKind.BREAKER_CLOSED,
        EventKind.POLICY_CHANGED,
    ]
    assert fleet.events("t")[-1].detail == (
        "adaptive to track, deadline 200 to 100 ms, uplink budget none to 500 kbit/s"
    )


def test_a_hit_rate_that_wavers_is_told_once() -> None:
    fleet = Fleet()
    for seq, rate in enumerate((1.0, 0.84, 0.9, 0.84, 0.9, 0.96, 0.9)):
        fleet.on_report("t", report(seq, hit_rate_5s=rate), seq * S)
    assert kinds(fleet)[1:] == [EventKind.HIT_RATE_FELL, EventKind.HIT_RATE_RECOVERED]


def test_no_frames_are_no_fallen_hit_rate() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(0), 0)
    fleet.on_report("t", report(1, hit_rate_5s=0.0, decisions_5s={}), S)
    assert kinds(fleet) == [EventKind.EDGE_JOINED]


def test_rates_are_those_of_the_edges_own_clock() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(1), 0)
    assert edge(fleet, 0).rates.captured_fps == 0
    fleet.on_report("t", report(3), S)  # one report was lost, and this one came early
    rates = edge(fleet, S).rates
    assert (rates.over_s, rates.captured_fps, rates.uplink_bps) == (2.0, 25.0, 8000.0)
    assert rates.settled_fps == {"split": 20.0, "tracked": 5.0}


def test_a_new_run_starts_afresh_and_the_old_one_is_not_heard_again() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(50, hit_rate_5s=0.1), 0)
    fleet.on_report("t", report(0, run_id="r2"), S)
    fleet.on_report("t", report(51), 2 * S)
    state = edge(fleet, 2 * S)
    assert (state.report.run_id, state.rates.captured_fps, state.missed_reports) == ("r2", 0.0, 0)
    assert kinds(fleet) == [EventKind.EDGE_JOINED, EventKind.EDGE_RESTARTED]


def test_a_late_report_is_not_taken_for_a_newer_one() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(5), 0)
    fleet.on_report("t", report(4, policy="track"), S)
    assert edge(fleet, S).report.seq == 5
    assert kinds(fleet) == [EventKind.EDGE_JOINED]


def test_a_finished_edge_is_gone_without_being_lost() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(0), 0)
    fleet.on_report("t", report(1, finished=True), S)
    fleet.advance(60 * S)
    assert (edge(fleet, S).health, edge(fleet, S).why) == (Health.GONE, "finished")
    assert kinds(fleet) == [EventKind.EDGE_JOINED, EventKind.EDGE_FINISHED]
    fleet.on_report("t", report(0, run_id="r2"), 61 * S)
    assert edge(fleet, 61 * S).health is Health.ALIVE


def test_a_worker_that_counts_from_the_start_again_was_restarted() -> None:
    fleet = Fleet()
    fleet.on_heartbeat("t", beat(700), 0)
    fleet.on_heartbeat("t", beat(0), 100 * MS)
    assert kinds(fleet) == [EventKind.WORKER_JOINED, EventKind.WORKER_RESTARTED]


def test_members_are_bounded_and_one_that_is_gone_makes_room() -> None:
    fleet = Fleet(max_edges=3)
    for name in "abcd":
        fleet.on_report("t", report(edge_id=name), 0)
    assert [state.edge_id for state in fleet.edges("t", 0)] == ["a", "b", "c"]
    assert fleet.turned_away == 1
    for name in "bc":
        fleet.on_report("t", report(1, edge_id=name), 4 * S)
    fleet.advance(4 * S)
    fleet.on_report("t", report(edge_id="d"), 4 * S)
    assert [state.edge_id for state in fleet.edges("t", 4 * S)] == ["b", "c", "d"]


def test_ten_thousand_edges_fit_and_all_are_found_when_they_go() -> None:
    fleet = Fleet(max_events=20_000)
    for n in range(10_000):
        fleet.on_report("t", report(edge_id=f"e{n}"), n)
    fleet.on_report("t", report(edge_id="one-more"), 10_000)
    assert (len(fleet.edges("t", 10_000)), fleet.turned_away) == (10_000, 1)
    fleet.advance(5 * S)
    assert kinds(fleet).count(EventKind.EDGE_GONE) == 10_000


def test_who_is_gone_for_ten_minutes_is_forgotten() -> None:
    fleet = Fleet()
    fleet.on_report("t", report(), 0)
    fleet.on_heartbeat("t", beat(), 0)
    fleet.advance(599 * S)
    assert len(fleet.edges("t", 599 * S)) == len(fleet.workers("t", 599 * S)) == 1
    fleet.advance(601 * S)
    assert fleet.edges("t", 601 * S) == [] and fleet.workers("t", 601 * S) == []


def test_events_are_bounded_numbered_and_can_be_followed() -> None:
    fleet = Fleet(max_events=4)
    for n in range(9):
        fleet.on_report("t", report(edge_id=f"e{n}"), n)
    assert [event.number for event in fleet.events("t")] == [6, 7, 8, 9]
    assert [event.number for event in fleet.events("t", after=7)] == [8, 9]
    assert [event.number for event in fleet.events("t", limit=1)] == [9]
    assert fleet.events("t", limit=0) == []


def test_tenants_see_only_their_own_and_are_bounded() -> None:
    fleet = Fleet(max_tenants=2)
    fleet.on_report("a", report(), 0)
    fleet.on_heartbeat("b", beat(), 0)
    fleet.on_report("c", report(), 0)
    assert fleet.workers("a", 0) == [] and fleet.edges("b", 0) == [] and fleet.edges("c", 0) == []
    assert fleet.edge("b", "cam", 0) is None and fleet.edge("a", "cam", 0) is not None
    assert kinds(fleet, "a") == [EventKind.EDGE_JOINED] and kinds(fleet, "b") == [EventKind.WORKER_JOINED]
    assert fleet.turned_away == 1


def test_the_fleet_has_no_clock_and_no_connection() -> None:
    for path in Path(fleet_module.__file__).parent.glob("fleet*.py"):
        roots = {
            found.module.partition(".")[0] for found in imports(ast.parse(path.read_text()), "splitmesh.gateway")
        }
        assert not roots & IMPURE, path.name


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"edge_id": "other"}, "edge_id"),
        ({"run_id": "a.b"}, "run_id"),
        ({"policy": "p" * 201}, "policy"),
        ({"source": "s" * 2001}, "source"),
        ({"hit_rate": 1.5}, "hit_rate"),
        ({"fps_5s": float("nan")}, "fps_5s"),
        ({"latency_p99_5s_ms": float("inf")}, "latency_p99_5s_ms"),
        ({"settled": {str(n): n for n in range(65)}}, "settled"),
        ({"pool": {"x" * 201: 1}}, "pool"),
        ({"link": LinkReport(base_ms=-1.0)}, "link.base_ms"),
    ],
)
def test_a_report_that_breaks_a_rule_is_refused_by_the_name_of_the_field(changes: dict[str, Any], field: str) -> None:
    assert report_from(report().SerializeToString(), edge="cam") == report()
    with pytest.raises(WireError, match=field):
        report_from(report(**changes).SerializeToString(), edge="cam")
