"""Owns the commands that start a deployable: options from its settings model, then its `run(settings)`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from splitmesh.settings.click_options import resolve_options, settings_options
from splitmesh.settings.model import AgentSettings, CloudSettings, EdgeSettings, LabSettings, Settings
from splitmesh.telemetry.logs import configure_logs


def service_command(model: type[Settings], start: Callable[[Any], int], text: str) -> click.Command:
    """A command for `model`: `start` is called with valid settings and gives the exit status."""

    def callback(**values: Any) -> int:
        settings = resolve_options(model, values).settings
        # A lab's standard output is its summary's; of the others it is the log that a cluster collects.
        to_stdout = settings.log_json and model is not LabSettings
        configure_logs(as_json=settings.log_json, stream=sys.stdout if to_stdout else None)
        return start(settings)

    return click.Command(model.section, callback=callback, params=settings_options(model), help=text)


def _start_lab(settings: LabSettings) -> int:
    from splitmesh.lab.command import run

    return run(settings)


def _start_edge(settings: EdgeSettings) -> int:
    from splitmesh.edge.command import run

    return run(settings)


def _start_agent(settings: AgentSettings) -> int:
    from splitmesh.agent.command import run

    return run(settings)


def _start_cloud(settings: CloudSettings) -> int:
    from splitmesh.cloud.command import run

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
agent = service_command(
    AgentSettings,
    _start_agent,
    """Keep an edge running for each camera of a box, and start and stop them as it is told over the broker.

    \b
    Examples:
      splitmesh agent --name box-1 --streams streams.toml --nats-url nats://broker:4222
      splitmesh agent --streams streams.toml --allow-source 'rtsp://*.cameras.local/*'
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
