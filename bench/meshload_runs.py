"""Owns the processes that benchmarks of load testers are made of: servers, meshload, wrk. Says what each cost."""

from __future__ import annotations

import json
import math
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_SOURCE = Path(__file__).with_name("noop_http.c")
_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Served:
    """A server that runs. `url` "": a responder, which has none. `kind`: for people."""

    url: str
    kind: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU time that it has spent until now."""
        spent = self.process.cpu_times()
        return float(spent.user + spent.system)


@contextmanager
def server(kind: str, *arguments: str) -> Iterator[Served]:
    """A server of `bench.meshload_servers`."""
    command = [sys.executable, "-m", "bench.meshload_servers", kind, *arguments]
    with _started(command, "uvloop", http=kind == "http") as served:
        yield served


@contextmanager
def noop_server(threads: int) -> Iterator[Served]:
    """The fastest one there is: bench/noop_http.c where there is a C compiler, else uvloop's on one thread."""
    compiler = shutil.which("cc")
    with tempfile.TemporaryDirectory() as folder:
        if compiler is None:
            with server("http") as served:
                yield served
            return
        program = str(Path(folder) / "noop_http")
        subprocess.run([compiler, "-O2", "-pthread", "-o", program, str(_SOURCE)], check=True)
        with _started([program, str(threads)], f"C, {threads} threads", http=True) as served:
            yield served


@contextmanager
def _started(command: Sequence[str], kind: str, *, http: bool) -> Iterator[Served]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("no pipes")
        try:
            port = json.loads(child.stdout.readline())["port"]
            yield Served(f"http://127.0.0.1:{port}/" if http else "", kind, psutil.Process(child.pid))
        finally:
            child.stdin.close()
            child.wait(10)


def load(*arguments: object) -> dict[str, Any]:
    """One run of meshload in a process of its own; its figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "out.json"
        words = [str(word) for word in arguments]
        command = [sys.executable, "-m", "meshload.cli.main", "-q", "--json", str(file), *words]
        subprocess.run(command, check=False, timeout=300)
        figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def wrk(path: str, url: str, *, threads: int, callers: int, length_s: float) -> dict[str, float]:
    """See `wrk_figures`; `cpu`: the cores that it kept busy on the average."""
    command = [path, f"-t{threads}", f"-c{callers}", f"-d{max(1, round(length_s))}s", "--latency", url]
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after, length_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began_s
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wrk_figures(out) | {"cpu": spent_s / length_s}


def wrk_figures(out: str) -> dict[str, float]:
    """What `wrk --latency` printed: rps, mean and p99 in ms; NaN for what is not there."""
    times = {}
    for name, pattern in (("mean", r"Latency\s+([0-9.]+)(us|ms|s)"), ("p99", r"99%\s+([0-9.]+)(us|ms|s)")):
        match = re.search(pattern, out)
        times[name] = float(match[1]) * _UNITS_MS[match[2]] if match else math.nan
    rps = re.search(r"Requests/sec:\s+([0-9.]+)", out)
    return {"rps": float(rps[1]) if rps else math.nan, **times}
