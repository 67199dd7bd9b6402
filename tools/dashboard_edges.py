"""Owns what dashboards show of edges: one edge, uplinks, codecs."""

from __future__ import annotations

from tools.dashboard_panels import HERE, Dashboard, Panel, quantile, rate

_EDGES = {"instance": ("instance", "splitmesh_captured_frames_total")}

EDGE = Dashboard(
    "edge",
    "splitmesh: one edge",
    (
        Panel(
            "Missed",
            "percentunit",
            ((f"instance:splitmesh_miss:ratio_rate5m{{{HERE}}}", "{{instance}}"),),
            kind="stat",
            thresholds=(0.05, 0.1),
        ),
        Panel("Captured", "reqps", ((rate("splitmesh_captured_frames_total", HERE), ""),), kind="stat"),
        Panel(
            "In flight",
            "short",
            ((f"sum(splitmesh_in_flight_frames{{{HERE}}})", ""),),
            kind="stat",
            thresholds=(16, 64),
        ),
        Panel(
            "Device against its profile",
            "short",
            ((f'max(splitmesh_gamma_ratio{{side="edge", {HERE}}})', ""),),
            "Measured over profiled time of models; 2 is half as fast.",
            kind="stat",
            thresholds=(1.5, 2),
        ),
        Panel(
            "Frames by outcome",
            "reqps",
            ((rate("splitmesh_frames_total", HERE, "outcome"), "{{outcome}}"),),
            stacked=True,
            wide=True,
        ),
        Panel(
            "Decisions by operating point",
            "reqps",
            ((rate("splitmesh_decisions_total", HERE, "place, point"), "{{place}} {{point}}"),),
            stacked=True,
        ),
        Panel(
            "Capture to result, by place",
            "s",
            (
                (quantile(0.5, "splitmesh_frame_latency_seconds", "place", HERE), "{{place}} median"),
                (quantile(0.95, "splitmesh_frame_latency_seconds", "place", HERE), "{{place}} 95 %"),
            ),
            "Exemplars lead to traces.",
        ),
        Panel(
            "Dropped before a decision, or not decodable",
            "reqps",
            (
                (rate("splitmesh_ring_dropped_frames_total", HERE), "ring full"),
                (rate("splitmesh_decode_errors_total", HERE), "decoding"),
            ),
        ),
        Panel("Commands", "reqps", ((rate("splitmesh_commands_total", HERE, "result"), "{{result}}"),)),
        Panel(
            "Tasks, and spans lost",
            "short",
            (
                (f"sum(splitmesh_process_tasks{{{HERE}}})", "tasks"),
                (f"sum(splitmesh_spans_dropped_spans{{{HERE}}})", "spans lost"),
            ),
        ),
    ),
    _EDGES,
)

LINK = Dashboard(
    "link",
    "splitmesh: uplinks",
    (
        Panel(
            "Share in use",
            "percentunit",
            ((f"max(instance:splitmesh_uplink:share_rate5m{{{HERE}}})", "fullest"),),
            kind="stat",
            thresholds=(0.6, 0.8),
        ),
        Panel("Estimated rate", "bps", ((f"min(splitmesh_link_bandwidth_bps{{{HERE}}})", "slowest"),), kind="stat"),
        Panel(
            "Not acknowledged",
            "bytes",
            ((f"max(splitmesh_uplink_backlog_bytes{{{HERE}}})", "most"),),
            kind="stat",
            thresholds=(100_000, 500_000),
        ),
        Panel(
            "Breakers open",
            "short",
            ((f'sum(splitmesh_breaker_state{{state="open", {HERE}}})', ""),),
            kind="stat",
            thresholds=(1, 5),
        ),
        Panel(
            "Estimated rate, and what is sent",
            "bps",
            (
                (f"splitmesh_link_bandwidth_bps{{{HERE}}}", "{{instance}} could"),
                (f"8 * {rate('splitmesh_uplink_bytes_total', HERE, 'instance')}", "{{instance}} does"),
            ),
            wide=True,
        ),
        Panel(
            "Delay of an empty message",
            "s",
            ((f"splitmesh_link_base_seconds{{{HERE}}}", "{{instance}}"),),
            thresholds=(0.1, 0.3),
        ),
        Panel("Not acknowledged", "bytes", ((f"splitmesh_uplink_backlog_bytes{{{HERE}}}", "{{instance}}"),)),
        Panel(
            "Share in use",
            "percentunit",
            ((f"instance:splitmesh_uplink:share_rate5m{{{HERE}}}", "{{instance}}"),),
            thresholds=(0.6, 0.8),
        ),
        Panel(
            "Bytes that belong to no frame",
            "Bps",
            ((rate("splitmesh_told_bytes_total", HERE, "what"), "{{what}}"),),
            stacked=True,
        ),
        Panel(
            "How workers were chosen", "reqps", ((rate("splitmesh_pool_events_total", HERE, "event"), "{{event}}"),)
        ),
        Panel(
            "Breaker", "short", ((f"sum by (state) (splitmesh_breaker_state{{{HERE}}})", "{{state}}"),), stacked=True
        ),
    ),
    _EDGES,
)

_OFFLOADED = f'place=~"split|frame", {HERE}'
_SENT = rate("splitmesh_decisions_total", _OFFLOADED)
_SENT_BY_EDGE = rate("splitmesh_decisions_total", _OFFLOADED, "instance")

CODEC = Dashboard(
    "codec",
    "splitmesh: codecs",
    (
        Panel(
            "Bytes per frame that is sent",
            "bytes",
            ((f"{rate('splitmesh_uplink_bytes_total', HERE)} / ({_SENT} > 0)", ""),),
            kind="stat",
        ),
        Panel(
            "Sent at all",
            "percentunit",
            ((f"{_SENT} / ({rate('splitmesh_decisions_total', HERE)} > 0)", ""),),
            kind="stat",
        ),
        Panel(
            "Keys and tables asked for again",
            "reqps",
            ((rate("splitmesh_nacks_total", 'code=~"need_keyframe|need_table"'), ""),),
            kind="stat",
            thresholds=(0.5, 2),
        ),
        Panel(
            "Decoding, 95th percentile",
            "s",
            ((quantile(0.95, "splitmesh_decode_seconds"), ""),),
            kind="stat",
            thresholds=(0.01, 0.03),
        ),
        Panel(
            "Operating points in use",
            "reqps",
            ((rate("splitmesh_decisions_total", f'place=~"split|frame", {HERE}', "point"), "{{point}}"),),
            "A point's name says cut, codec and level.",
            stacked=True,
            wide=True,
        ),
        Panel(
            "Bytes per frame, by edge",
            "bytes",
            (
                (
                    f"{rate('splitmesh_uplink_bytes_total', HERE, 'instance')} / ({_SENT_BY_EDGE} > 0)",
                    "{{instance}}",
                ),
            ),
        ),
        Panel(
            "Decoding on workers",
            "s",
            (
                (quantile(0.5, "splitmesh_decode_seconds", "instance"), "{{instance}} median"),
                (quantile(0.95, "splitmesh_decode_seconds", "instance"), "{{instance}} 95 %"),
            ),
        ),
        Panel(
            "Refusals that codecs cause",
            "reqps",
            ((rate("splitmesh_nacks_total", 'code=~"need_keyframe|need_table|bad_request"', "code"), "{{code}}"),),
        ),
    ),
    _EDGES,
)
