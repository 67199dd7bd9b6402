"""Owns the settings of the deployables: one typed field per option, with its unit and its rule.

Field names are TOML keys and, in capitals, the end of the environment variable; flags drop the unit suffix
(`deadline_ms` ← `--deadline 150ms`, `SPLITMESH_EDGE_DEADLINE_MS`, `[edge] deadline_ms`).
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from splitmesh.settings.units import (
    Outage,
    parse_bps,
    parse_bytes,
    parse_cpus,
    parse_names,
    parse_outages,
    parse_port,
    parse_seconds,
    split_host_port,
)


@dataclass(frozen=True, slots=True)
class Option:
    """How a field is written on the command line and in the environment, where that differs from the rule."""

    flag: str = ""
    metavar: str = ""
    also_env: str = ""


def _milliseconds(value: object) -> object:
    return None if value is None else round(parse_seconds(value, bare="ms") * 1e3, 6)


def _seconds(value: object) -> object:
    return None if value is None else parse_seconds(value)


def _optional_bps(value: object) -> object:
    return None if value is None else parse_bps(value)


def _host_port(text: str) -> str:
    split_host_port(text)
    return text


def _path(path: Path) -> Path:
    return path.expanduser()


Milliseconds = Annotated[float, BeforeValidator(_milliseconds), Option(metavar="DURATION")]
Seconds = Annotated[float, BeforeValidator(_seconds), Option(metavar="DURATION")]
OptionalSeconds = Annotated[float | None, BeforeValidator(_seconds), Option(metavar="DURATION")]
ByteCount = Annotated[int, BeforeValidator(parse_bytes), Option(metavar="SIZE")]
BitsPerSecond = Annotated[float, BeforeValidator(parse_bps), Option(metavar="RATE")]
OptionalBps = Annotated[float | None, BeforeValidator(_optional_bps), Option(metavar="RATE")]
Outages = Annotated[tuple[Outage, ...], BeforeValidator(parse_outages), Option(metavar="LENGTH@START[/cut],…")]
Cpus = Annotated[tuple[int, ...], BeforeValidator(parse_cpus), Option(metavar="CPUS")]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names), Option(metavar="NAME,…")]
Port = Annotated[
    Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(parse_port), Option(metavar="PORT|off")
]
UserPath = Annotated[Path, AfterValidator(_path), Option(metavar="PATH")]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"), Option(metavar="NAME")]
NatsUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(nats|tls)://[^\s]+$"),
    Option(metavar="URL", also_env="SPLITMESH_NATS_URL"),
]
OtlpUrl = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s]+$"), Option(metavar="URL", also_env="SPLITMESH_OTLP_ENDPOINT")
]
LinkName = Annotated[str, StringConstraints(min_length=1), Option(metavar="TRACE|PRESET")]
HostPort = Annotated[str, AfterValidator(_host_port), Option(metavar="HOST:PORT")]
LinkStart = Literal["first-byte", "now", "signal"]
Ratio = Annotated[float, Field(ge=0, le=1)]
DeadlineMs = Annotated[Milliseconds, Field(ge=1, le=60_000)]
Slowdown = Annotated[float, Field(ge=1, le=1000), Option(metavar="K")]
MaxFps = Annotated[float, Field(ge=0, le=1000), Option(metavar="N")]
Threads = Annotated[int, Field(ge=1, le=256)]

_MAX_FPS_DOC = "Take at most so many pictures per second of the source; 0: all"
_OUTAGE_DOC = 'Carry nothing, as in "5s@20s,2s@40s/cut": for 5 s from second 20; /cut resets connections too'


def host_token(prefix: str) -> str:
    """`<prefix>-<host name>`, with characters that a subject token may hold."""
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0]).strip("-") or "host"
    return f"{prefix}-{host}"[:64]


def _worker_name() -> str:
    return f"{host_token('worker')[:56]}-{os.getpid()}"


LINK_QUEUE_BYTES = 128 * 1024


class Settings(BaseModel):
    """Base of all sections. Frozen; unknown keys fail."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    section: ClassVar[str]

    log_json: bool = Field(False, description="Write logs as JSON lines instead of one-liners for people")


class _Observed(Settings):
    """What every process of the mesh that stays up has in common."""

    nats_url: NatsUrl = Field("nats://127.0.0.1:4222", description="Broker; user and password may be in the URL")
    tenant: Token = Field("default", description="First token of every subject; separates users of one broker")
    model: str = Field(
        "coco-ssdlite", description="Catalogue name (see `splitmesh models ls`) or path of an ONNX file"
    )
    manifest: UserPath | None = Field(None, description="Manifest TOML of an own ONNX model")
    plan: UserPath | None = Field(None, description="Plan folder to use; default: built once and cached")
    providers: Names = Field(("auto",), description="onnxruntime providers in order: auto, tensorrt, cuda, cpu")
    threads: Threads = Field(1, description="Threads of the model runtime")
    cpu: Cpus = Field((), description="Pin this process to these CPUs; none: not pinned")
    span_log: UserPath | None = Field(None, description="Folder of the span log that `splitmesh why` reads")
    otlp_endpoint: OtlpUrl | None = Field(None, description="OpenTelemetry collector, OTLP over HTTP")
    web_host: str = Field("127.0.0.1", min_length=1, description="Address of /metrics /healthz /readyz /status")
    ready_json: UserPath | None = Field(None, description="File to write (JSON) once ready: pid, name, web_port")
    drain_s: Seconds = Field(5.0, le=600, description="Longest time to finish what is in flight on shutdown")


class EdgeSettings(_Observed):
    """`splitmesh edge`: takes frames from a source and gives each exactly one answer."""

    section: ClassVar[str] = "edge"

    name: Token = Field(
        default_factory=lambda: host_token("edge"), description="Name of this edge, unique on the broker"
    )
    source: str = Field(min_length=1, description="Video file, rtsp:// or http(s):// URL, or /dev/videoN")
    policy: str = Field("adaptive", min_length=1, description="How frames are placed: adaptive or a baseline")
    deadline_ms: DeadlineMs = Field(150.0, description="Capture to answer; a later answer is worthless")
    edge_slowdown: Slowdown = Field(1.0, description="Make this edge's model runs K times slower (for experiments)")
    pace: bool = Field(True, description="Play files at their own speed; without, as fast as frames are done")
    loop: bool = Field(False, description="Start a file again at its end")
    duration_s: OptionalSeconds = Field(None, description="Stop after this time; default: at the end of the source")
    max_fps: MaxFps = Field(0.0, description=_MAX_FPS_DOC)
    ring_capacity: int = Field(
        4, ge=1, le=1024, description="Frames that may wait for a decision before the oldest is shed"
    )
    hwaccel: Literal["auto", "none", "cuda", "v4l2m2m", "vaapi"] = Field("auto", description="Hardware decoding")
    results: UserPath | None = Field(None, description="results.jsonl to write: one line per captured frame")
    trace_ratio: Ratio = Field(0.1, description="Share of frames traced; misses and resumed frames always are")
    web_port: Port = Field(9464, description="Port of the status pages; 0: any free one; off: none")
    uplink_budget_bps: BitsPerSecond = Field(0.0, description="Long-run uplink budget; 0: none")


class CloudSettings(_Observed):
    """`splitmesh cloud`: a worker that runs tails and whole models for edges."""

    section: ClassVar[str] = "cloud"

    name: Token = Field(default_factory=_worker_name, description="Name of this worker, unique on the broker")
    queue_limit: int = Field(64, ge=1, le=65_536, description="Requests that may wait; more are refused")
    heartbeat_ms: Milliseconds = Field(200.0, ge=10, le=60_000, description="Time between load reports")
    trace_ratio: Ratio = Field(0.1, description="Share of requests traced that bring no trace context")
    web_port: Port = Field(9465, description="Port of the status pages; 0: any free one; off: none")


class LabSettings(Settings):
    """`splitmesh lab`: the whole mesh on this machine, with an emulated edge and an emulated link."""

    section: ClassVar[str] = "lab"

    preset: Literal["", "thin-uplink"] = Field(
        "", description="A scenario: settings that take the place of the defaults; see `settings.presets`"
    )
    source: str | None = Field(None, description="Video file or URL; default: a street scene, fetched once")
    model: str = Field(
        "coco-ssdlite", description="Catalogue name (see `splitmesh models ls`) or path of an ONNX file"
    )
    manifest: UserPath | None = Field(None, description="Manifest TOML of an own ONNX model")
    plan: UserPath | None = Field(None, description="Plan folder to use; default: the model's own, or one built once")
    deadline_ms: DeadlineMs = Field(150.0, description="Capture to answer; a later answer is worthless")
    link: LinkName = Field("lab-default", description="Uplink to emulate: a preset's name or a trace file")
    edge_slowdown: Slowdown = Field(5.0, description="How many times slower than this machine the edge is")
    policy: str = Field(
        "adaptive", min_length=1, description="How frames are placed: adaptive, only:split, or a baseline"
    )
    duration_s: Seconds = Field(60.0, ge=1, le=86_400, description="Length of the run")
    max_fps: MaxFps = Field(0.0, description=_MAX_FPS_DOC)
    outage: Outages = Field((), description=_OUTAGE_DOC)
    kill_worker_s: OptionalSeconds = Field(None, description="Kill the worker (SIGKILL) at this time of the run")
    restart_worker_s: OptionalSeconds = Field(None, description="Start a killed worker again at this time of the run")
    json_out: Annotated[UserPath | None, Option(flag="--json", metavar="FILE")] = Field(
        None, description="Write the summary as JSON to this file; - for standard output"
    )
    out: Annotated[UserPath | None, Option(metavar="DIR")] = Field(
        None, description="Folder of the run; default: a new one below lab-out, and lab-out/latest points to it"
    )
    seed: int = Field(0, ge=0, description="Seed of the link's jitter")
    threads: Threads = Field(1, description="Threads of the model runtime, in the edge and in the worker each")
    uplink_budget_bps: BitsPerSecond = Field(0.0, description="Long-run uplink budget; 0: none")
    trace_ratio: Ratio = Field(1.0, description="Share of frames traced; misses and resumed frames always are")
    web_port: Port = Field(0, description="Port of the live page; 0: any free one; off: none")
    no_video: bool = Field(False, description="Do not write the annotated video")
    quiet: bool = Field(False, description="No live view; only the summary at the end")


class LinkSettings(Settings):
    """`splitmesh link`: a TCP relay that behaves like a real uplink."""

    section: ClassVar[str] = "link"

    listen: HostPort = Field("127.0.0.1:0", description="Where clients connect; port 0: any free one")
    target: Annotated[HostPort, Option(flag="--to")] = Field("127.0.0.1:4222", description="Where their bytes go")
    link: LinkName = Field("lab-default", description="Uplink to emulate: a preset's name or a trace file")
    outage: Outages = Field((), description=_OUTAGE_DOC)
    duration_s: Seconds = Field(60.0, gt=0, description="Length that a preset is laid out for; the relay runs on")
    down_bps: OptionalBps = Field(None, description="Downlink rate; default: what the trace says")
    queue_bytes: ByteCount = Field(
        LINK_QUEUE_BYTES, ge=4096, description="Bytes that may wait in the link, per direction"
    )
    stats: UserPath | None = Field(None, description="File that gets one JSON line per second")
    start: LinkStart = Field(
        "first-byte", description="When the trace's clock begins: first traffic, at once, or SIGUSR1"
    )
    seed: int = Field(0, ge=0, description="Seed of the jitter")
    ready_json: UserPath | None = Field(None, description="File to write (JSON) once it listens: pid, name, port")


SECTIONS: dict[str, type[Settings]] = {
    model.section: model for model in (EdgeSettings, CloudSettings, LabSettings, LinkSettings)
}
