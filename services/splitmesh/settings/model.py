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

from splitmesh.schedule.tenants import Tenant
from splitmesh.settings.quotas import parse_tenants
from splitmesh.settings.units import (
    Outage,
    parse_bps,
    parse_bytes,
    parse_cpus,
    parse_names,
    parse_outages,
    parse_port,
    parse_seconds,
    parse_watts,
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
Watts = Annotated[float, BeforeValidator(parse_watts), Option(metavar="POWER")]
OptionalBps = Annotated[float | None, BeforeValidator(_optional_bps), Option(metavar="RATE")]
Outages = Annotated[tuple[Outage, ...], BeforeValidator(parse_outages), Option(metavar="LENGTH@START[/cut],…")]
Cpus = Annotated[tuple[int, ...], BeforeValidator(parse_cpus), Option(metavar="CPUS")]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_names), Option(metavar="NAME,…")]
Tenants = Annotated[tuple[Tenant, ...], BeforeValidator(parse_tenants), Option(metavar="NAME[:QUOTA=AMOUNT,…],…")]
Port = Annotated[
    Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(parse_port), Option(metavar="PORT|off")
]
GrpcPort = Annotated[int, Field(ge=0, le=65535), Option(metavar="PORT")]
UserPath = Annotated[Path, AfterValidator(_path), Option(metavar="PATH")]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$"), Option(metavar="NAME")]
NatsUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(nats|tls)://[^\s]+$"),
    Option(metavar="URL", also_env="SPLITMESH_NATS_URL"),
]
OtlpUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(https?|grpcs?)://[^\s]+$"),
    Option(metavar="URL", also_env="SPLITMESH_OTLP_ENDPOINT"),
]
NatsCa = Annotated[UserPath | None, Option(metavar="FILE", also_env="SPLITMESH_NATS_CA")]
NatsCert = Annotated[UserPath | None, Option(metavar="FILE", also_env="SPLITMESH_NATS_CERT")]
NatsKey = Annotated[UserPath | None, Option(metavar="FILE", also_env="SPLITMESH_NATS_KEY")]
NatsCreds = Annotated[UserPath | None, Option(metavar="FILE", also_env="SPLITMESH_NATS_CREDS")]
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


class _OnBus(Settings):
    """What every process has in common that connects to the broker."""

    nats_url: NatsUrl = Field("nats://127.0.0.1:4222", description="Broker; user and password may be in the URL")
    nats_ca: NatsCa = Field(None, description="PEM of who signed the broker's certificate; default: the system's")
    nats_cert: NatsCert = Field(None, description="PEM of our certificate, for a broker that verifies its clients")
    nats_key: NatsKey = Field(None, description="PEM of its key, unless it is in the same file")
    nats_creds: NatsCreds = Field(None, description="File of credentials: JWT and seed, nkey seed, or user:password")


class _Observed(_OnBus):
    """What edges and workers have in common."""

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
    otlp_endpoint: OtlpUrl | None = Field(None, description="OpenTelemetry collector: http(s):// or grpc(s):// URL")
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
    power_budget_w: Watts = Field(0.0, description="Long-run budget of the whole device's power; 0: none")
    power_idle_w: Watts = Field(3.0, description="What the device draws while frames come and no model runs")
    power_active_w: Watts = Field(7.0, description="What it draws while a model runs")
    radio_nj_per_bit: float = Field(438.0, ge=0, le=1e6, description="What it draws on top for each bit sent")
    allow_experiments: bool = Field(False, description="Let commands make this edge's model runs slower")


class AgentSettings(_OnBus):
    """`splitmesh agent`: keeps an edge running for each camera of a box."""

    section: ClassVar[str] = "agent"

    name: Token = Field(
        default_factory=lambda: host_token("box"), description="Name of this agent, unique on the broker"
    )
    streams: UserPath = Field(description="TOML file of the streams: [edge] is of all, [streams.NAME] of one")
    changes: UserPath | None = Field(
        None, description="File that keeps what commands started and stopped; default: beside the streams file"
    )
    tenant: Token = Field("default", description="First token of every subject; separates users of one broker")
    allow_source: Annotated[Names, Option(metavar="PATTERN,…")] = Field(
        (), description="Sources that commands may name beside those of the streams file; * is all but / and @"
    )
    max_streams: int = Field(16, ge=1, le=256, description="Streams at the same time; more are refused")
    web_host: str = Field("127.0.0.1", min_length=1, description="Address of /metrics /healthz /readyz /status")
    web_port: Port = Field(9467, description="Port of the status pages; 0: any free one; off: none")
    ready_json: UserPath | None = Field(None, description="File to write (JSON) once ready: pid, name, web_port")
    drain_s: Seconds = Field(10.0, le=600, description="Longest time that edges have to end before they are killed")


class CloudSettings(_Observed):
    """`splitmesh cloud`: a worker that runs tails and whole models for edges."""

    section: ClassVar[str] = "cloud"

    name: Token = Field(default_factory=_worker_name, description="Name of this worker, unique on the broker")
    tenants: Tenants = Field(
        (), description="Tenants to serve, with their quotas on this worker; default: `tenant` alone, without any"
    )
    queue_limit: int = Field(64, ge=1, le=65_536, description="Requests that may wait; more are refused")
    max_batch: int = Field(
        8, ge=1, le=32, description="Requests that may run as one where that ends them sooner; 1: each by itself"
    )
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
    workers: int = Field(1, ge=1, le=8, description="How many workers; the first is the one that --kill-worker kills")
    web_port: Port = Field(0, description="Port of the page; 0: any free one; off: no page and no gateway")
    open_page: Annotated[bool, Option(flag="--open")] = Field(False, description="Open the page in a browser")
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
    commands: bool = Field(
        False, description='Take commands from standard input, one a line: "bend FACTOR SECONDS" changes the rate'
    )
    ready_json: UserPath | None = Field(None, description="File to write (JSON) once it listens: pid, name, port")


class GatewaySettings(_OnBus):
    """`splitmesh gateway`: the front door, for programs (gRPC) and for people (a page)."""

    section: ClassVar[str] = "gateway"

    name: Token = Field(
        default_factory=lambda: host_token("gateway"), description="Name of this gateway, unique on the broker"
    )
    models: Names = Field(
        ("coco-ssdlite",),
        min_length=1,
        description="Catalogue names or ONNX files of what is offered; first: default",
    )
    tokens: UserPath | None = Field(
        None, description="TOML file of the tenants' tokens; none: everybody on this machine is let in as `tenant`"
    )
    tenant: Token = Field("default", description="Whose mesh is shown where no tokens are asked for")
    grpc_host: str = Field("127.0.0.1", min_length=1, description="Address that gRPC listens on")
    grpc_port: GrpcPort = Field(9470, description="Port of gRPC; 0: any free one")
    web_host: str = Field(
        "127.0.0.1", min_length=1, description="Address of the page and of /metrics /healthz /readyz"
    )
    web_port: Port = Field(9466, description="Port of the page; 0: any free one; off: none")
    tls_cert: UserPath | None = Field(None, description="PEM file of the certificate chain of gRPC and page")
    tls_key: UserPath | None = Field(None, description="PEM file of the certificate's key")
    client_ca: UserPath | None = Field(
        None, description="PEM file of authorities: gRPC takes only clients with a certificate of theirs"
    )
    lab_control: bool = Field(
        False, description="Offer on the page what only a lab can do to its mesh; `splitmesh lab` sets it"
    )
    budget_ms: DeadlineMs = Field(1000.0, description="Time for a frame that brings no budget of its own")
    frames_in_flight: int = Field(8, ge=1, le=256, description="Frames of one call that may be under way")
    total_in_flight: int = Field(
        512, ge=1, le=65_536, description="Frames of all calls that may be under way; more are refused"
    )
    max_calls: int = Field(1024, ge=1, le=65_536, description="gRPC calls at the same time; more are refused")
    max_message_bytes: ByteCount = Field(
        8_000_000, ge=1000, le=64_000_000, description="Longest message that gRPC takes"
    )
    picture_threads: Threads = Field(2, description="Threads that decode and resize pictures")
    keepalive_s: Seconds = Field(20.0, ge=1, le=3600, description="Silence after which a client is asked for a sign")
    connection_age_s: OptionalSeconds = Field(
        None, ge=1, description="Age at which a connection is ended, calls on it a minute later; default: never"
    )
    trace_ratio: Ratio = Field(0.1, description="Share of frames traced that bring no trace context")
    span_log: UserPath | None = Field(None, description="Folder of the span log that `splitmesh why` reads")
    otlp_endpoint: OtlpUrl | None = Field(None, description="OpenTelemetry collector: http(s):// or grpc(s):// URL")
    ready_json: UserPath | None = Field(
        None, description="File to write (JSON) once ready: pid, name, grpc_port, web_port"
    )
    drain_s: Seconds = Field(5.0, le=600, description="Longest time to finish what is in flight on shutdown")


SECTIONS: dict[str, type[Settings]] = {
    model.section: model
    for model in (EdgeSettings, AgentSettings, CloudSettings, GatewaySettings, LabSettings, LinkSettings)
}
