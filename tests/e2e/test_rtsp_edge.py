"""`splitmesh edge` on a real RTSP camera that dies and comes back: every captured frame has its line all the same."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_rtsp_source import MISSING, RtspServer, clip, port, serving

__all__ = ["clip", "port"]  # fixtures

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"RTSP server not installed ({MISSING}); see tests/e2e/README.md"),
    pytest.mark.timeout(180),
]


def lines(results: Path) -> int:
    return results.read_bytes().count(b"\n") if results.exists() else 0


def wait_lines(results: Path, count: int, edge: subprocess.Popen[str], within_s: float = 60) -> None:
    until = time.monotonic() + within_s
    while lines(results) < count:
        assert edge.poll() is None, "the edge ended by itself"
        assert time.monotonic() < until, f"{lines(results)} of {count} results after {within_s} s"
        with contextlib.suppress(subprocess.TimeoutExpired):
            edge.wait(0.1)


@contextlib.contextmanager
def running_edge(url: str, results: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "splitmesh.cli.main", "edge", "--source", url, "--policy", "local-only"]
    command += ["--results", str(results), "--web-port", "off", "--hwaccel", "none", "--log-json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as edge:
        try:
            yield edge
        finally:
            edge.kill()


def test_edge_picks_a_restarted_camera_up_again(clip: Path, port: int, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    server: RtspServer
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(clip, port))
        edge = stack.enter_context(running_edge(server.url, results))
        wait_lines(results, 40, edge)
        server.kill()
        before = lines(results)
        stack.enter_context(serving(clip, port))
        wait_lines(results, before + 40, edge)
        edge.send_signal(signal.SIGINT)
        log, _ = edge.communicate(timeout=30)
    assert edge.returncode == 0, log[-2000:]
    assert "connected again" in log
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert sorted(record["seq"] for record in records) == list(range(len(records)))
    assert sum(record["outcome"] == "local" for record in records) >= 60
