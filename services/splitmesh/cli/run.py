"""Owns the commands that start a deployable: options from its settings model, then its `run(settings)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from splitmesh.settings.click_options import resolve_options, settings_options
from splitmesh.settings.model import CloudSettings, EdgeSettings, LabSettings, LinkSettings, Settings
from splitmesh.telemetry.logs import configure_logs


def service_command(model: type[Settings], start: Callable[[Any], int], text: str) -> click.Command:
    """A command for `model`: `start` is called with valid settings and gives the exit status."""

    def callback(**values: Any) -> int:
        settings = resolve_options(model, values).settings
        configure_logs(as_json=settings.log_json)
        return start(settings)

    return click.Command(model.section, callback=callback, params=settings_options(model), help=text)


def _start_lab(settings: LabSettings) -> int:
    from splitmesh.lab.command import run

    return run(settings)


def _start_edge(settings: EdgeSettings) -> int:
    from splitmesh.edge.command import run

    return run(settings)


def _start_cloud(settings: CloudSettings) -> int:
    from splitmesh.cloud.command import run

    return run(settings)


def _start_link(settings: LinkSettings) -> int:
    from splitmesh.lab.link.command import run

    return run(settings)


lab = service_command(
    LabSettings,
    _start_lab,
    """Run the whole mesh on this machine: broker, worker, emulated uplink and a slowed-down edge, on a real video.

    Prints a summary and leaves a folder with report.html, results.jsonl, the annotated video and the span logs.

    \b
    Examples:
      splitmesh lab
      splitmesh lab --deadline 150ms --edge-slowdown 6 --duration 30s
      splitmesh lab --outage 5s@20s --kill-worker 30s --json out.json
      splitmesh lab --source cam.mp4 --model yolox.onnx --manifest yolox.toml --link trace.up
    """,
)
edge = service_command(
    EdgeSettings,
    _start_edge,
    """Take frames from a source, decide per frame where they are inferred, and answer each within the deadline.

    \b
    Examples:
      splitmesh edge --source rtsp://cam.local/main --nats-url nats://broker:4222
      splitmesh edge --source clip.mp4 --no-pace --results results.jsonl --deadline 200ms
      splitmesh edge --source /dev/video0 --uplink-budget 500kbit --config edge.toml
    """,
)
cloud = service_command(
    CloudSettings,
    _start_cloud,
    """Serve tails and whole models to edges. Start as many workers as you like; they share the load.

    \b
    Examples:
      splitmesh cloud --nats-url nats://broker:4222 --model coco-ssdlite
      splitmesh cloud --plan coco.plan --threads 4 --cpu 4-7 --web-host 0.0.0.0
    """,
)
link = service_command(
    LinkSettings,
    _start_link,
    """Relay TCP connections through an emulated uplink: bandwidth from a trace or preset, delay, outages.

    \b
    Examples:
      splitmesh link --listen 127.0.0.1:4333 --to 127.0.0.1:4222 --link lte
      splitmesh link --link commute.up --outage 5s@20s,2s@40s/cut
    """,
)
