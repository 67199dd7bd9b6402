"""A report says what the status says, in few bytes."""

from __future__ import annotations

from splitmesh.edge.steering import Course
from splitmesh.edge.telling import edge_report
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.status import EdgeStatus
from splitmesh.telemetry.metrics import PoolEvent
from splitmesh.wire.control import report_from

BUSY = EdgeStatus(
    edge="warehouse-north-camera-07",
    policy="adaptive",
    run_s=86_400.5,
    captured=2_160_000,
    counts={"captured": 2_160_000, **{outcome.value: 300_000 for outcome in Outcome}},
    in_flight=4,
    fps=24.9,
    hit_rate=0.97,
    hit_rate_5s=0.98,
    latency_ms={"p50": 51.0, "p95": 99.0, "p99": 140.0},
    decisions_5s={"split": 80, "local": 25, "frame": 10, "track": 10},
    link={"bandwidth_bps": 2_345_678.9, "base_ms": 11.5, "backlog_bytes": 12_000},
    uplink_bps=1_234_567.8,
    uplink_bytes=12_000_000_000,
    breaker="half-open",
    gamma_edge=4.5,
    gamma_cloud=1.25,
    broker="connected",
    source="rtsp://10.20.30.40:554/Streaming/Channels/101",
    finished=True,
    pool={event.value: 300_000 for event in PoolEvent},
)
COURSE = Course("only:split", 150.0, 250_000.0)


def test_a_report_that_sets_every_field_takes_at_most_500_bytes() -> None:
    made = edge_report(BUSY, COURSE, run_id="a1b2c3d4", seq=86_400, model="coco-ssdlite", told_bytes=34_000_000)
    unset = {f.name for f in made.DESCRIPTOR.fields} - {f.name for f, _ in made.ListFields()}
    assert unset == set()
    raw = made.SerializeToString()
    assert len(raw) <= 500, len(raw)
    assert report_from(raw, edge=BUSY.edge) == made
    assert made.settled["resumed"] == 300_000 and "captured" not in made.settled
    assert (made.policy, made.deadline_ms, made.uplink_budget_bps) == ("only:split", 150.0, 250_000.0)


def test_an_edge_that_has_seen_nothing_yet_reports_all_the_same() -> None:
    idle = EdgeStatus(edge="cam", policy="adaptive", run_s=0.1, captured=0, counts={"captured": 0, "local": 0})
    made = edge_report(idle, COURSE, run_id="r", seq=0, model="m", told_bytes=0)
    assert report_from(made.SerializeToString(), edge="cam") == made
    assert not made.settled and made.latency_p50_5s_ms == 0.0


def test_a_long_source_keeps_its_end() -> None:
    long = EdgeStatus(edge="cam", policy="adaptive", run_s=0.1, captured=0, source="/data/" + "d" * 900 + "/clip.mp4")
    made = edge_report(long, COURSE, run_id="r", seq=0, model="m", told_bytes=0)
    assert len(made.source) == 100 and made.source.endswith("/clip.mp4")
