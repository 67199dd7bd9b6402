"""Owns which URL scheme is spoken by which target. Imports a target's module only when its scheme is asked for."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from meshload.errors import TargetError
from meshload.target import Target


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What a target may be told beside its URL."""

    in_flight: int = 1024
    """At most so many requests of this process are on their way at once."""
    connect_timeout_s: float = 5.0
    tls_ca: Path | None = None
    """Certificates to trust, PEM; None: the system's."""
    tls_insecure: bool = False
    """Take any certificate."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request where the protocol has headers (gRPC: metadata)."""
    method: str = "POST"
    """Of HTTP requests. GET and HEAD send no body."""
    http2: bool = False
    """Speak HTTP/2 to `http` and `https`."""
    streams: bool = False
    """Payloads that build on each other will come: workers of the mesh must be known by name."""


Opener: TypeAlias = str
"""`module:function`; the function takes (url, its parts, options) and returns a Target that is not open yet."""

SCHEMES: dict[str, Opener] = {
    "nats": "meshload.targets.mesh:mesh_target",
    "nats-raw": "meshload.targets.nats:raw_target",
    "http": "meshload.targets.http:http_target",
    "https": "meshload.targets.http:http_target",
    "grpc": "meshload.targets.grpc:grpc_target",
    "grpcs": "meshload.targets.grpc:grpc_target",
    "kserve": "meshload.targets.kserve:kserve_target",
    "kserves": "meshload.targets.kserve:kserve_target",
}

_HTTP: Final = ("http", "https")


def open_target(url: str, options: TargetOptions) -> Target:
    """The target of `url`, before its `open`. Raises TargetError for a URL that no target takes."""
    parts = split(url)
    if options.http2 and parts.scheme not in _HTTP:
        raise TargetError("does not take --http2", url=url, advice="leave it out, or write http:// or https://")
    module, _, function = SCHEMES[parts.scheme].partition(":")
    try:
        target: Target = getattr(importlib.import_module(module), function)(url, parts, options)
    except ModuleNotFoundError as exc:
        raise TargetError(f"needs {exc.name}, which is not installed", url=url, advice="make setup") from exc
    return target


def split(url: str) -> SplitResult:
    """The parts of a target's URL. Raises TargetError unless it has a known scheme, a host and a valid port."""
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        if parts.port == 0:
            raise ValueError("port 0")
    except ValueError as exc:
        raise TargetError(f"is no URL: {exc}", url=url, advice="write it as nats://host:port/tenant/model") from exc
    known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    if parts.scheme not in SCHEMES:
        close = difflib.get_close_matches(parts.scheme, SCHEMES, n=1)
        hint = f"did you mean {close[0]}://? " if close else ""
        raise TargetError("no target has this scheme", url=url, advice=f"{hint}known: {known}")
    if not parts.hostname:
        raise TargetError("names no host", url=url, advice=f"write it as {parts.scheme}://host:port/…")
    return parts
