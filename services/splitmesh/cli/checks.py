"""Owns the checks behind `splitmesh doctor`: each tries the real thing and says what it found."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from splitmesh.errors import MeshError

_MIN_FREE_BYTES = 500 * 10**6
_PACKAGES = ("numpy", "onnx", "onnxruntime", "nats-py", "protobuf", "opentelemetry-sdk", "av", "blosc2", "simplejpeg")
_CODECS = ("h264", "hevc")


class Verdict(StrEnum):
    OK = "ok"
    LIMITED = "limited"
    """Works, but not everything, or slower."""
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `essential`: without it nothing runs."""

    name: str
    verdict: Verdict
    detail: str
    advice: str = ""
    essential: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "detail": self.detail,
            "advice": self.advice,
            "essential": self.essential,
        }


Check = Callable[[], Iterable[Finding]]


def run_checks(checks: Sequence[tuple[str, Check]]) -> list[Finding]:
    """All findings in order. A check that fails itself is a finding, never the end of the others."""
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except ModuleNotFoundError as exc:
            found.append(
                Finding(name, Verdict.BROKEN, f"{exc.name} is not installed", "pip install 'splitmesh[lab]'")
            )
        except Exception as exc:  # noqa: BLE001 - a doctor reports whatever it meets
            found.append(Finding(name, Verdict.BROKEN, f"{type(exc).__name__}: {exc}", essential=True))
    return found


def python_version() -> Iterable[Finding]:
    text = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    fine = sys.version_info >= (3, 11)
    yield Finding(
        "python", Verdict.OK if fine else Verdict.BROKEN, text, "" if fine else "needs 3.11", essential=True
    )


def packages() -> Iterable[Finding]:
    held, absent = [], []
    for name in _PACKAGES:
        try:
            held.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    if absent:
        advice = "pip install 'splitmesh[edge]'"
        yield Finding("packages", Verdict.LIMITED, f"{', '.join(held)}; absent: {', '.join(absent)}", advice)
    else:
        yield Finding("packages", Verdict.OK, ", ".join(held))


def plane_coder() -> Iterable[Finding]:
    from splitmesh.codec.planes.kernel import COMPILED

    if COMPILED is None:
        advice = "install a C compiler and Python's headers, then install splitmesh again"
        detail = "plain Python: the same payloads, some hundred times slower"
        yield Finding("feature coder", Verdict.LIMITED, detail, advice)
    else:
        yield Finding("feature coder", Verdict.OK, "compiled")


def providers() -> Iterable[Finding]:
    from splitmesh.inference.providers import available

    probes = available()
    for probe in probes:
        cpu = probe.name == "CPUExecutionProvider"
        worst = Verdict.BROKEN if cpu else Verdict.LIMITED
        short = probe.name.removesuffix("ExecutionProvider")
        yield Finding(f"runtime {short}", Verdict.OK if probe.usable else worst, probe.detail, essential=cpu)


def decoders() -> Iterable[Finding]:
    from splitmesh.media.clip import write_test_clip
    from splitmesh.media.probe import probe_decoders
    from splitmesh.media.source import open_source

    try:
        with tempfile.TemporaryDirectory(prefix="splitmesh-doctor-") as folder:
            clip = write_test_clip(Path(folder) / "clip.mp4", frames=10)
            with open_source(clip, pace=False, hwaccel="none") as video:
                decoded = video.next(10.0) is not None
    except MeshError as exc:
        yield Finding("decode software", Verdict.BROKEN, exc.message, exc.advice)
    else:
        verdict = Verdict.OK if decoded else Verdict.BROKEN
        yield Finding(
            "decode software", verdict, f"PyAV {importlib.metadata.version('av')}, encoded and decoded h264"
        )
    usable, reasons = [], []
    for codec in _CODECS:
        for row in probe_decoders(codec):
            if row.usable:
                usable.append(f"{row.acceleration.value} {codec}")
            elif codec == _CODECS[0]:
                reasons.append(f"{row.acceleration.value}: {row.detail}")
    if usable:
        yield Finding("decode hardware", Verdict.OK, ", ".join(usable))
    else:
        yield Finding("decode hardware", Verdict.LIMITED, "; ".join(reasons) or "none", "software decoding is used")


def picture_codecs() -> Iterable[Finding]:
    import numpy as np

    from splitmesh.codec.coders import PictureCoder
    from splitmesh.media.h264 import H264Coder
    from splitmesh.media.webp import WebpCoder

    grey = np.full((32, 32, 3), 128, np.uint8)
    makers: dict[str, Callable[[], PictureCoder]] = {
        "webp": lambda: WebpCoder(50, (32, 32)),
        "h264": lambda: H264Coder(28, (32, 32)),
    }
    for name, make in makers.items():
        try:
            coder = make()
            coder.decode(coder.encode(grey))
        except MeshError as exc:
            advice = exc.advice or "frames go as JPEG instead"
            yield Finding(f"codec {name}", Verdict.LIMITED, exc.message, advice)
        else:
            yield Finding(f"codec {name}", Verdict.OK, "encoded and decoded a picture")


def broker() -> Iterable[Finding]:
    from splitmesh.bus.server import EmbeddedServer, find_server

    async def start_and_stop(store: Path) -> float:
        started = time.monotonic()
        server = EmbeddedServer(port=0, store=store)
        await server.start()
        took_ms = (time.monotonic() - started) * 1e3
        await server.stop()
        return took_ms

    try:
        binary = find_server()
        with tempfile.TemporaryDirectory(prefix="splitmesh-doctor-") as store:
            took_ms = asyncio.run(start_and_stop(Path(store)))
    except MeshError as exc:
        yield Finding("broker", Verdict.BROKEN, exc.message, exc.advice or "only the lab needs a broker of its own")
    else:
        yield Finding("broker", Verdict.OK, f"{binary} starts in {took_ms:.0f} ms")


def ports() -> Iterable[Finding]:
    for port, what in ((4222, "NATS"), (9464, "edge status pages"), (9465, "worker status pages")):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as exc:
                busy = f"{what}: {exc.strerror or exc}"
                yield Finding(
                    f"port {port}", Verdict.LIMITED, busy, "fine if it is the one you started; else --web-port"
                )
            else:
                yield Finding(f"port {port}", Verdict.OK, f"free ({what})")


def clocks() -> Iterable[Finding]:
    steps = []
    for _ in range(200):
        first = last = time.monotonic_ns()
        while last == first:
            last = time.monotonic_ns()
        steps.append(last - first)
    step_ns = sorted(steps)[len(steps) // 2]
    wall, mono = time.time_ns(), time.monotonic_ns()
    deadline = mono + 100_000_000
    while (now := time.monotonic_ns()) < deadline:
        time.sleep((deadline - now) / 1e9)
    drift_us = ((time.time_ns() - wall) - (time.monotonic_ns() - mono)) / 1e3
    fine = step_ns < 100_000 and abs(drift_us) < 1000
    detail = f"monotonic steps of {step_ns} ns; wall clock moved {drift_us:+.0f} µs against it in 100 ms"
    yield Finding("clocks", Verdict.OK if fine else Verdict.LIMITED, detail, "" if fine else "check time sync")


def processors() -> Iterable[Finding]:
    total = os.cpu_count() or 1
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(total))
    load = psutil.getloadavg()[0]
    detail = f"{total} CPUs, {len(allowed)} allowed ({','.join(map(str, allowed[:16]))}), load {load:.1f}"
    if len(allowed) < 2:
        yield Finding(
            "cpu", Verdict.LIMITED, detail, "edge and worker of the lab share one core: figures will be noisy"
        )
    else:
        busy = load > len(allowed)
        advice = "the machine is busy: timings will be pessimistic" if busy else ""
        yield Finding("cpu", Verdict.LIMITED if busy else Verdict.OK, detail, advice)


def memory() -> Iterable[Finding]:
    seen = psutil.virtual_memory()
    detail = f"{seen.available / 1e9:.1f} of {seen.total / 1e9:.1f} GB free"
    yield Finding("memory", Verdict.OK if seen.available > 10**9 else Verdict.LIMITED, detail)


def disk() -> Iterable[Finding]:
    from splitmesh.models.fetch import default_cache

    for name, folder, essential in (("disk here", Path.cwd(), False), ("disk cache", default_cache(), True)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x" * 4096)
            free = psutil.disk_usage(str(folder)).free
        except OSError as exc:
            yield Finding(name, Verdict.BROKEN, f"{folder}: {exc.strerror or exc}", essential=essential)
        else:
            fine = free > _MIN_FREE_BYTES
            detail = f"{folder} is writable, {free / 1e9:.1f} GB free"
            yield Finding(name, Verdict.OK if fine else Verdict.LIMITED, detail, "" if fine else "models need 0.5 GB")


def settings() -> Iterable[Finding]:
    from splitmesh.cli.config import section_rows
    from splitmesh.settings.model import SECTIONS

    for section in SECTIONS:
        try:
            changed = [
                row["key"] for row in section_rows(section, None) if row["source"] not in ("default", "required")
            ]
        except MeshError as exc:
            yield Finding(f"settings {section}", Verdict.BROKEN, exc.message, exc.advice, essential=True)
        else:
            yield Finding(
                f"settings {section}", Verdict.OK, f"set: {', '.join(changed)}" if changed else "all defaults"
            )


CHECKS: tuple[tuple[str, Check], ...] = (
    ("python", python_version),
    ("packages", packages),
    ("feature coder", plane_coder),
    ("runtime", providers),
    ("decode", decoders),
    ("codec", picture_codecs),
    ("broker", broker),
    ("ports", ports),
    ("clocks", clocks),
    ("cpu", processors),
    ("memory", memory),
    ("disk", disk),
    ("settings", settings),
)
