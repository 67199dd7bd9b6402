"""Owns the options that every command which puts load on shares, and the run that they mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from meshload.arrivals import KINDS, parse_tenants, period_s, read_times
from meshload.edges import parse_range
from meshload.errors import LoadError
from meshload.spec import DEFAULT_IN_FLIGHT, RunSpec
from meshload.stages import duration_s, parse_stages
from meshload.targets import split
from splitmesh.wire import subjects

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_RATE_RPS = 100.0
DEFAULT_LENGTH = "30s"

LOAD = [
    click.option("-R", "--rate", type=float, metavar="RATE", help="Requests per second in all.  [default: 100]"),
    click.option("-d", "--duration", metavar="TIME", help="How long is measured, after the warm-up.  [default: 30s]"),
    click.option("--warmup", default="0s", metavar="TIME", help="Load before that, not counted.  [default: 0s]"),
    click.option("--stages", metavar="LIST", help="Rates one after the other, in place of -R and -d: "
                 "30s@100,60s@500,ramp:60s@2000 (a ramp begins at the rate before it)."),
    click.option("--arrivals", default="poisson", metavar="KIND",
                 help=f"When requests leave: {', '.join(KINDS)} (seconds, one a line).  [default: poisson]"),
    click.option("--closed", is_flag=True, help="Closed loop: -c callers, each sends when it has its answer. It "
                 "hides stalls of the server; for comparison with other tools."),
]  # fmt: skip
REQUESTS = [
    click.option("--deadline", metavar="TIME", help="An answer later than this after its intended send is a miss: "
                 "gives hit rate and goodput. With --edges also 100-200ms."),
    click.option("--tenants", metavar="MIX", help="Shares of tenants: a:3,b:1."),
    click.option("--edges", type=int, default=0, metavar="N", help="Many virtual edges, each with its own phase, "
                 "deadline and tenant; in place of -R."),
    click.option("--fps", metavar="RATE", help="Frames per second of each edge: 5, or 1-15.  [default: 1]"),
    click.option("--payload", metavar="WHAT", help="frames:VIDEO, features:PLAN:POINT, file:GLOB, "
                 "json:TEXT, json:@FILE or synthetic[:SIZE[:CONTENT]].  [default: 128 bytes; for nats:// a picture]"),
]  # fmt: skip
SHARED = [
    click.option("-c", "--in-flight", type=int, metavar="N",
                 help=f"At most N requests on their way; more wait, and that counts.  [default: "
                 f"{DEFAULT_IN_FLIGHT['open']}; with --closed: {DEFAULT_IN_FLIGHT['closed']}]"),
    click.option("-t", "--processes", type=int, default=1, metavar="N",
                 help="Processes that share the load.  [default: 1]"),
    click.option("--timeout", default="10s", metavar="TIME", help="Patience with one request.  [default: 10s]"),
    click.option("--connect-timeout", default="5s", metavar="TIME", help="For connecting.  [default: 5s]"),
    click.option("--model", default="", metavar="NAME", help="Whose input pictures fit.  [default: the target's]"),
    click.option("--link", metavar="PRESET|FILE", help="An emulated uplink in between, as of `splitmesh link`."),
    click.option("--method", default="POST", metavar="NAME", help="HTTP: GET sends no body.  [default: POST]"),
    click.option("--http2", is_flag=True, help="HTTP/2 to http:// and https://: many requests on a connection."),
    click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Sent along; repeatable."),
    click.option("--tls-ca", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                 help="Certificates to trust, PEM."),
    click.option("--tls-insecure", is_flag=True, help="Trust any certificate."),
    click.option("--trace", type=float, default=0.0, metavar="SHARE",
                 help="Share of requests that carry a trace context (W3C), sampled.  [default: 0]"),
    click.option("--seed", type=int, default=1, metavar="N", help="Of arrivals and mixes.  [default: 1]"),
]  # fmt: skip


def options(*groups: list[Callable[[_F], _F]]) -> Callable[[_F], _F]:
    """All options of `groups`, in their order."""

    def decorate(function: _F) -> _F:
        for option in reversed([each for group in groups for each in group]):
            function = option(function)
        return function

    return decorate


def spec_of(url: str, values: dict[str, Any]) -> RunSpec:
    """The run that options mean. Raises LoadError that names the option that is wrong."""
    parts = split(url)
    closed = bool(values.get("closed"))
    arrivals, recorded = values.get("arrivals", "poisson"), False
    if arrivals.partition(":")[0] not in {kind.partition(":")[0] for kind in KINDS}:
        raise LoadError(f"--arrivals {arrivals}: no such arrivals", advice=f"known: {', '.join(KINDS)}")
    length = values.get("duration") or ("" if arrivals.startswith("trace:") else DEFAULT_LENGTH)
    rate = values.get("rate")
    if rate is not None and not 0 < rate < 1e7:
        raise LoadError(f"-R {rate:g} is not a rate of up to 10 million requests/s")
    if arrivals.startswith("trace:"):
        recorded = rate is None
        times = read_times(Path(arrivals.partition(":")[2]))
        length = length or f"{period_s(times):.6f}s"
    stages: Any
    if values.get("stages"):
        if rate is not None or values.get("duration"):
            raise LoadError("--stages takes the place of -R and -d: give one or the other")
        stages = tuple((s.length_s, s.start_rps, s.end_rps) for s in parse_stages(values["stages"]))
    else:
        steady = rate or DEFAULT_RATE_RPS
        stages = ((duration_s(length, what="-d"), steady, steady),)
    in_flight = values["in_flight"]
    return RunSpec(
        url=url,
        payload=values.get("payload") or _payload(parts.scheme, parts.path),
        model=values["model"] or _model(parts.scheme, parts.path),
        closed=closed,
        stages=stages,
        arrivals=arrivals,
        as_recorded=recorded,
        edges=values["edges"],
        fps=parse_range(values["fps"] or "1", option="--fps"),
        warmup_s=duration_s(values["warmup"], what="--warmup"),
        in_flight=DEFAULT_IN_FLIGHT["closed" if closed else "open"] if in_flight is None else in_flight,
        timeout_s=duration_s(values["timeout"], what="--timeout"),
        deadline_ms=_deadline(values["deadline"]),
        tenants=tuple(parse_tenants(values["tenants"]).items()) if values["tenants"] else (),
        processes=values["processes"],
        traced=values["trace"],
        seed=values["seed"],
        connect_timeout_s=duration_s(values["connect_timeout"], what="--connect-timeout"),
        tls_ca=str(values["tls_ca"] or ""),
        tls_insecure=values["tls_insecure"],
        headers=tuple(_header(text) for text in values["headers"]),
        method=values["method"],
        http2=values["http2"],
    )


def _deadline(text: str | None) -> tuple[float, float]:
    if not text:
        return (0.0, 0.0)
    low, dash, high = text.partition("-")
    unit = high.lstrip("0123456789.") if dash else ""
    ends = [
        duration_s(part, what="--deadline") * 1e3 for part in (low + unit if low[-1:].isdigit() else low, high or low)
    ]
    if not 0 < ends[0] <= ends[1]:
        raise LoadError(f"--deadline {text}: must be above 0, the lower one first")
    return (ends[0], ends[1])


def _payload(scheme: str, path: str) -> str:
    """What is sent where nothing is said. Raises LoadError for a cut, whose tensors must come from somewhere."""
    if scheme != "nats":
        return "synthetic"
    cut = "/".join(path.strip("/").split("/")[2:])
    if cut not in ("", subjects.WHOLE):
        raise LoadError(
            f"cut {cut} takes its tensors, not pictures",
            advice=f"leave the cut out of the URL and say --payload features:default:split/{cut}/u8zstd-6",
        )
    return "synthetic::picture"


def _model(scheme: str, path: str) -> str:
    """The model that the mesh is asked for, so that pictures fit it."""
    names = path.strip("/").split("/")
    return names[1] if scheme == "nats" and len(names) > 1 else ""


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise LoadError(f"-H {text!r} is no header", advice="write it as 'Name: value'")
    return name.strip(), value.strip()
