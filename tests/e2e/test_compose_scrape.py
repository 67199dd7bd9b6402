"""Prometheus with the configuration of the compose mesh reaches every process that it names, and finds frames."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from compose_mesh import PROJECT, ComposeMesh, free_port, need_images
from tools.compose_smoke import wait_for

NETWORKS = {"edge": "site", "worker-1": "centre", "worker-2": "centre", "gateway": "centre"}
SERVICES = ("hub", "leaf", "link", *NETWORKS)
CONFIGURATION = PROJECT / "deploy" / "observability" / "prometheus"
JOBS = {"splitmesh-edge": 1, "splitmesh-cloud": 2, "splitmesh-gateway": 1}
UP_S = 120.0


@pytest.mark.timeout(600)
def test_prometheus_reaches_edge_workers_and_gateway(tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    if prometheus is None:
        pytest.skip("prometheus is not installed: apt install prometheus")
    need_images()
    with ComposeMesh(SERVICES, EDGE_SLOWDOWN="1", MAX_FPS="2") as mesh:
        wait_for(mesh.edge_port, "frames", lambda status: status["captured"] > 0, seconds=180)
        with scraping(prometheus, mesh, tmp_path) as port:
            wait_until_all_are_up(port)
            until = time.monotonic() + UP_S
            while not (frames := asked(port, "query?query=splitmesh_captured_frames_total")["result"]):
                assert time.monotonic() < until, "no frames of the edge"
                time.sleep(0.5)
            assert int(frames[0]["value"][1]) > 0


@contextmanager
def scraping(prometheus: str, mesh: ComposeMesh, folder: Path) -> Iterator[int]:
    """Prometheus outside of the mesh, which finds services by address instead of name. Its port."""
    text = (CONFIGURATION / "prometheus.yml").read_text(encoding="utf-8")
    for service, network in NETWORKS.items():
        assert f'"{service}:' in text
        text = text.replace(f'"{service}:', f'"{mesh.address(service, network)}:')
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    shutil.copytree(CONFIGURATION / "rules", folder / "rules")
    port = free_port()
    command = (prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=data")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=log, stderr=log
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_all_are_up(port: int) -> None:
    """Every job of the mesh has as many instances as it should, each of them up. Fails after UP_S."""
    until = time.monotonic() + UP_S
    while True:
        targets = asked(port, "targets?state=active").get("activeTargets", [])
        ours = [target for target in targets if target["labels"]["job"] in JOBS]
        up = [target["labels"]["job"] for target in ours if target["health"] == "up"]
        if {job: up.count(job) for job in JOBS} == JOBS:
            return
        assert time.monotonic() < until, [(target["scrapeUrl"], target["lastError"]) for target in ours]
        time.sleep(0.5)


def asked(port: int, what: str) -> dict[str, Any]:
    """Prometheus' answer, {} while it has none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{what}", timeout=5) as reply:
            found: dict[str, Any] = json.loads(reply.read())["data"]
            return found
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return {"result": []}
