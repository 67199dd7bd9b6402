"""Owns what dashboards show of all: the fleet, the pool of workers, the objective."""

from __future__ import annotations

from tools.dashboard_panels import HERE, OBJECTIVE, Dashboard, Panel, quantile, rate

_HITS, _MISSES = "splitmesh_deadline_hits_total", "splitmesh_deadline_misses_total"
_IN_TIME = f"sum(rate({_HITS}[5m])) / (sum(rate({_HITS}[5m])) + sum(rate({_MISSES}[5m])))"
_WORKERS = {
    "instance": ("instance", "splitmesh_heartbeats_total"),
    "tenant": ("tenant", "splitmesh_tenant_requests_total"),
}

FLEET = Dashboard(
    "fleet",
    "splitmesh: fleet",
    (
        Panel("Answered in time", "percentunit", ((_IN_TIME, ""),), kind="stat", thresholds=(OBJECTIVE, 0.9)),
        Panel("Edges up", "short", (('count(up{job=~".*splitmesh-edge"} == 1)', ""),), kind="stat"),
        Panel("Workers up", "short", (('count(up{job=~".*splitmesh-cloud"} == 1)', ""),), kind="stat"),
        Panel(
            "Alerts that fire",
            "short",
            (('count(ALERTS{alertname=~"Splitmesh.*", alertstate="firing"}) or vector(0)', ""),),
            kind="stat",
            thresholds=(1, 3),
        ),
        Panel(
            "Frames by outcome",
            "reqps",
            ((rate("splitmesh_frames_total", by="outcome"), "{{outcome}}"),),
            "Where frames were answered; shed and expired ones were not.",
            stacked=True,
            wide=True,
        ),
        Panel(
            "Edges that miss most",
            "percentunit",
            (("topk(10, instance:splitmesh_miss:ratio_rate5m)", "{{instance}}"),),
            thresholds=(0.05, 0.1),
        ),
        Panel(
            "Capture to result, 95th percentile, slowest edges",
            "s",
            (("topk(10, instance:splitmesh_frame_latency_seconds:p95_rate5m)", "{{instance}}"),),
        ),
        Panel(
            "Uplink of all edges",
            "bps",
            (
                (f"8 * {rate('splitmesh_uplink_bytes_total')}", "frames"),
                (f"8 * {rate('splitmesh_told_bytes_total', by='what')}", "{{what}}"),
            ),
            stacked=True,
        ),
        Panel(
            "Edges by state of their breaker",
            "short",
            (("sum by (state) (splitmesh_breaker_state)", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Connections made again",
            "short",
            (("sum by (what, job) (increase(splitmesh_reconnects_total[10m]))", "{{job}} {{what}}"),),
        ),
        Panel(
            "Frames of gateways",
            "reqps",
            ((rate("splitmesh_gateway_frames_total", by="tenant, outcome"), "{{tenant}} {{outcome}}"),),
        ),
    ),
)

POOL = Dashboard(
    "pool",
    "splitmesh: pool of workers",
    (
        Panel(
            "Predicted wait",
            "s",
            (("pool:splitmesh_predicted_wait_seconds:avg", ""),),
            "What the autoscaler follows.",
            kind="stat",
            thresholds=(0.02, 0.1),
        ),
        Panel(
            "Answered",
            "reqps",
            ((rate("splitmesh_requests_total", f'outcome="answered", {HERE}'), ""),),
            kind="stat",
        ),
        Panel(
            "Refused",
            "percentunit",
            ((f"max(instance:splitmesh_refused:ratio_rate5m{{{HERE}}})", "worst worker"),),
            kind="stat",
            thresholds=(0.05, 0.2),
        ),
        Panel(
            "Waiting",
            "short",
            ((f"sum(splitmesh_queue_depth_requests{{{HERE}}})", ""),),
            kind="stat",
            thresholds=(16, 64),
        ),
        Panel(
            "Predicted wait, by worker",
            "s",
            ((f"splitmesh_predicted_wait_seconds{{{HERE}}}", "{{instance}}"),),
            thresholds=(0.02, 0.1),
            wide=True,
        ),
        Panel(
            "Requests by part of the model",
            "reqps",
            ((rate("splitmesh_requests_total", HERE, "model, cut, outcome"), "{{model}} {{cut}} {{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Refusals by code", "reqps", ((rate("splitmesh_nacks_total", HERE, "code"), "{{code}}"),), stacked=True
        ),
        Panel(
            "Where the time goes, 95th percentile",
            "s",
            (
                (quantile(0.95, "splitmesh_queue_seconds", where=HERE), "queue"),
                (quantile(0.95, "splitmesh_decode_seconds", where=HERE), "decode"),
                (quantile(0.95, "splitmesh_service_seconds", where=HERE), "model"),
            ),
        ),
        Panel(
            "Model time by worker, median",
            "s",
            ((quantile(0.5, "splitmesh_service_seconds", "instance", HERE), "{{instance}}"),),
        ),
        Panel(
            "Requests of tenants",
            "reqps",
            (
                (
                    rate("splitmesh_tenant_requests_total", f'tenant=~"$tenant", {HERE}', "tenant, outcome"),
                    "{{tenant}} {{outcome}}",
                ),
            ),
        ),
        Panel(
            "Slots that tenants hold",
            "short",
            (
                (
                    rate("splitmesh_tenant_compute_seconds_total", f'tenant=~"$tenant", {HERE}', "tenant"),
                    "{{tenant}}",
                ),
            ),
            "Seconds of service per second.",
            stacked=True,
        ),
        Panel(
            "Wait of tenants, for turn and quotas",
            "s",
            (
                (
                    f'avg by (tenant) (splitmesh_tenant_predicted_wait_seconds{{tenant=~"$tenant", {HERE}}})',
                    "{{tenant}}",
                ),
            ),
        ),
        Panel("Heartbeats", "reqps", ((rate("splitmesh_heartbeats_total", HERE, "instance"), "{{instance}}"),)),
    ),
    _WORKERS,
)

SLO = Dashboard(
    "slo",
    "splitmesh: objective",
    (
        Panel(
            "Missed within 3 days",
            "percentunit",
            (("fleet:splitmesh_miss:ratio_rate3d", ""),),
            kind="stat",
            thresholds=(0.04, 0.05),
        ),
        Panel(
            "Budget left of 3 days",
            "percentunit",
            ((f"1 - fleet:splitmesh_miss:ratio_rate3d / {1 - OBJECTIVE:.2g}", ""),),
            "1: nothing was missed; 0: as much as may be.",
            kind="stat",
            thresholds=(0.5, 0.1),
        ),
        Panel(
            "Burn rate, 1 hour",
            "short",
            ((f"fleet:splitmesh_miss:ratio_rate1h / {1 - OBJECTIVE:.2g}", ""),),
            "1 spends exactly what may be missed.",
            kind="stat",
            thresholds=(6, 14.4),
        ),
        Panel(
            "Edges that burn fast",
            "short",
            ((f"count(instance:splitmesh_miss:ratio_rate1h > 14.4 * {1 - OBJECTIVE:.2g}) or vector(0)", ""),),
            kind="stat",
            thresholds=(1, 5),
        ),
        Panel(
            "Burn rate of the fleet",
            "short",
            (
                (f"fleet:splitmesh_miss:ratio_rate5m / {1 - OBJECTIVE:.2g}", "5 minutes"),
                (f"fleet:splitmesh_miss:ratio_rate1h / {1 - OBJECTIVE:.2g}", "1 hour"),
            ),
            thresholds=(6, 14.4),
            wide=True,
        ),
        Panel(
            "Burn rate by edge, 1 hour",
            "short",
            ((f"topk(10, instance:splitmesh_miss:ratio_rate1h) / {1 - OBJECTIVE:.2g}", "{{instance}}"),),
            thresholds=(6, 14.4),
        ),
        Panel(
            "Burn rate by edge, 6 hours",
            "short",
            ((f"topk(10, instance:splitmesh_miss:ratio_rate6h) / {1 - OBJECTIVE:.2g}", "{{instance}}"),),
            thresholds=(3, 6),
        ),
        Panel(
            "Alerts",
            "short",
            (('ALERTS{alertname=~"Splitmesh.*", alertstate="firing"}', "{{alertname}} {{instance}}"),),
            stacked=True,
            wide=True,
        ),
    ),
)
