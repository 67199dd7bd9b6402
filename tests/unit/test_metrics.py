"""Metrics: every one named by the rule, counted from the frame's own record, and bounded in its labels."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.policy.breaker import BreakerState
from splitmesh.policy.point import Place
from splitmesh.telemetry.metrics import Metrics, PoolEvent, Reconnected, Side, TenantOutcome

UNITS = ("seconds", "bytes", "bps", "ratio", "frames", "hits", "misses", "decisions", "errors", "reconnects", "state",
         "requests", "nacks", "heartbeats", "spans", "tasks", "events", "commands",
         "watts", "audits")  # fmt: skip


def record(outcome: Outcome, *, latency_ms: float | None = 80.0, hit: bool = True) -> FrameRecord:
    return FrameRecord(
        "e.r.1", 1, 1, 0, 0, outcome, "local", "why", 150.0, latency_ms, hit, uplink_bytes=10, trace_id="ab" * 16
    )


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


@pytest.mark.parametrize("role", ["edge", "cloud"])
def test_names_follow_the_rule(role: str) -> None:
    metrics = Metrics()
    getattr(metrics, role)
    families = list(metrics.registry.collect())
    assert len(families) > 8
    for family in families:
        assert re.fullmatch(r"splitmesh_[a-z_]+", family.name)
        assert family.name.rpartition("_")[2] in UNITS, family.name
        assert family.documentation


def test_a_settled_frame_is_counted_once_everywhere() -> None:
    metrics = Metrics()
    metrics.edge.settled(record(Outcome.RESUMED))
    metrics.edge.settled(record(Outcome.SHED, latency_ms=None, hit=False))
    registry = metrics.registry
    assert value(registry, "splitmesh_frames_total", outcome="resumed") == 1
    assert value(registry, "splitmesh_frames_total", outcome="shed") == 1
    assert value(registry, "splitmesh_frames_total", outcome="local") == 0
    assert value(registry, "splitmesh_deadline_hits_total") == 1
    assert value(registry, "splitmesh_deadline_misses_total") == 1
    assert value(registry, "splitmesh_frame_latency_seconds_count", place="split") == 1
    assert value(registry, "splitmesh_uplink_bytes_total") == 20


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_can_be_settled(outcome: Outcome) -> None:
    metrics = Metrics()
    metrics.edge.settled(record(outcome))
    assert value(metrics.registry, "splitmesh_frames_total", outcome=outcome.value) == 1


def test_latency_carries_its_trace_as_exemplar() -> None:
    metrics = Metrics()
    metrics.edge.settled(record(Outcome.LOCAL))
    text = generate_openmetrics(metrics.registry).decode()
    assert 'le="0.1",place="local"} 1.0 # {trace_id="' + "ab" * 16 in text


def test_exactly_one_breaker_state_is_set() -> None:
    metrics = Metrics()
    for state in BreakerState:
        metrics.edge.breaker(state)
        seen = {s: value(metrics.registry, "splitmesh_breaker_state", state=s.value) for s in BreakerState}
        assert [s for s, on in seen.items() if on] == [state]


def test_no_input_can_grow_the_number_of_series() -> None:
    metrics = Metrics()
    for index in range(1000):
        metrics.edge.decided(Place.SPLIT, f"point-{index}")
    assert len(re.findall(r"splitmesh_decisions_total\{", generate_latest(metrics.registry).decode())) == 65
    cloud = Metrics()
    for index in range(1000):
        cloud.cloud.nacked(model=f"m{index}", cut=f"c{index}", code=f"code-{index}")
        cloud.cloud.tenant(f"t{index}", counts={TenantOutcome.ANSWERED: 1}, compute_s=1, predicted_wait_s=0)
    text = generate_latest(cloud.registry).decode()
    assert len(re.findall(r"splitmesh_tenant_compute_seconds_total\{", text)) == 65
    assert value(cloud.registry, "splitmesh_tenant_compute_seconds_total", tenant="other") == 1000 - 64
    assert len(text.splitlines()) < 1500


def test_a_worker_counts_answers_refusals_and_cancellations() -> None:
    metrics = Metrics()
    cloud = metrics.cloud
    cloud.answered(model="m", cut="", queue_s=0.01, decode_s=0.002, service_s=0.03, trace_id="cd" * 16)
    cloud.nacked(model="m", cut="n9", code="overloaded")
    cloud.cancelled(model="m", cut="n9")
    cloud.load(queue_depth=3, predicted_wait_s=0.25)
    registry = metrics.registry
    assert value(registry, "splitmesh_requests_total", model="m", cut="whole", outcome="answered") == 1
    assert value(registry, "splitmesh_requests_total", model="m", cut="n9", outcome="nacked") == 1
    assert value(registry, "splitmesh_requests_total", model="m", cut="n9", outcome="cancelled") == 1
    assert value(registry, "splitmesh_nacks_total", code="overloaded") == 1
    assert value(registry, "splitmesh_service_seconds_sum", model="m", cut="whole") == pytest.approx(0.03)
    assert value(registry, "splitmesh_queue_depth_requests") == 3
    assert value(registry, "splitmesh_predicted_wait_seconds") == 0.25


def test_what_tenants_had_is_counted_once_however_often_it_is_told() -> None:
    metrics = Metrics()
    for served, over in ((1, 0), (5, 2), (5, 2)):
        metrics.cloud.tenant(
            "red",
            counts={TenantOutcome.ANSWERED: served, TenantOutcome.OVER_QUOTA: over},
            compute_s=0.5 * served,
            predicted_wait_s=served / 10,
        )
    registry = metrics.registry
    assert value(registry, "splitmesh_tenant_requests_total", tenant="red", outcome="answered") == 5
    assert value(registry, "splitmesh_tenant_requests_total", tenant="red", outcome="over-quota") == 2
    assert value(registry, "splitmesh_tenant_requests_total", tenant="red", outcome="refused") == 0
    assert value(registry, "splitmesh_tenant_compute_seconds_total", tenant="red") == 2.5
    assert value(registry, "splitmesh_tenant_predicted_wait_seconds", tenant="red") == 0.5


def test_gauges_of_the_edge_show_what_they_were_told() -> None:
    metrics = Metrics()
    metrics.edge.link(bandwidth_bps=2e6, base_s=0.02, backlog_bytes=512)
    metrics.edge.gamma(Side.CLOUD, 1.5)
    metrics.edge.reconnected(Reconnected.BROKER)
    registry = metrics.registry
    assert value(registry, "splitmesh_link_bandwidth_bps") == 2e6
    assert value(registry, "splitmesh_link_base_seconds") == 0.02
    assert value(registry, "splitmesh_uplink_backlog_bytes") == 512
    assert value(registry, "splitmesh_gamma_ratio", side="cloud") == 1.5
    assert value(registry, "splitmesh_reconnects_total", what="broker") == 1


def test_what_audits_have_found_is_counted_once_and_shown_by_kind_of_point() -> None:
    metrics = Metrics()
    metrics.edge.audited(3, {"split/c/temporal": {"still": 1.0, "moving": 2.5}})
    metrics.edge.audited(5, {"split/c/temporal": {"moving": 2.0}, "frame/jpeg": {"still": 0.5, "moving": 0.5}})
    registry = metrics.registry
    assert value(registry, "splitmesh_audits_total") == 5
    assert value(registry, "splitmesh_error_ratio", points="split/c/temporal", content="moving") == 2.0
    assert value(registry, "splitmesh_error_ratio", points="frame/jpeg", content="still") == 0.5


def test_what_happens_in_the_pool_is_counted_once_however_often_it_is_told() -> None:
    metrics = Metrics()
    for chosen in (3, 3, 5):
        metrics.edge.pool({PoolEvent.CHOSEN: chosen, PoolEvent.EJECTED: 1})
    told = {
        event: metrics.registry.get_sample_value("splitmesh_pool_events_total", {"event": event.value})
        for event in PoolEvent
    }
    assert (told[PoolEvent.CHOSEN], told[PoolEvent.EJECTED], told[PoolEvent.HEDGED]) == (5, 1, 0)
