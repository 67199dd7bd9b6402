"""A real Prometheus scrapes real processes by our rules: figures come, and an alert when a worker is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "integration"))
from mesh_run import Node, Scene, node, scene

from splitmesh.bus.server import EmbeddedServer

__all__ = ["scene"]

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "observability" / "prometheus"
PATIENCE_S = 60.0


class Prometheus:
    """On a free port, with rules and alerts as they are but for how long something must last: a second."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        (folder / "rules").mkdir(parents=True)
        for path in (FOLDER / "rules").glob("*.yml"):
            text = path.read_text("utf-8")
            for lasting in ("1m", "2m"):
                text = text.replace(f"for: {lasting}\n", "for: 1s\n")
            (folder / "rules" / path.name).write_text(text, "utf-8")
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in targets.items()
        ]
        settings = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules/*.yml"],
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(json.dumps(settings), "utf-8")

    @contextlib.asynccontextmanager
    async def running(self, program: str) -> AsyncIterator[None]:
        with (self.folder / "log").open("wb") as log:
            options = {
                "config.file": self.folder / "prometheus.yml",
                "storage.tsdb.path": self.folder / "data",
                "web.listen-address": f"127.0.0.1:{self.port}",
            }
            command = [program, *(f"--{name}={value}" for name, value in options.items())]
            process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            await process.wait()

    async def asked(self, query: str) -> list[dict[str, Any]]:
        """The vector that `query` gives now; [] while Prometheus is not up."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": query})

        def get() -> list[dict[str, Any]]:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                    return found
            except OSError:
                return []

        return await asyncio.to_thread(get)

    async def until(self, query: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until `query` gives `count` rows or more. Raises AssertionError with Prometheus's own words."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while len(found := await self.asked(query)) < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                return found
        log = (self.folder / "log").read_text("utf-8")[-800:]
        raise AssertionError(f"{query} gives {await self.asked(query)}: {log}")


@pytest.fixture
def program() -> str:
    if (found := shutil.which("prometheus")) is None:
        pytest.skip("needs a Prometheus: apt install prometheus")
    return found


def port_of(one: Node) -> int:
    """Of its pages."""
    return int(json.loads((one.folder / "ready.json").read_text("utf-8"))["web_port"])


async def test_targets_are_up_ratios_have_values_and_a_killed_worker_is_told(
    scene: Scene, tmp_path: Path, program: str
) -> None:
    async with (
        EmbeddedServer(store=tmp_path / "nats") as broker,
        node("cloud", tmp_path / "worker", **scene.worker(nats_url=broker.url)) as worker,
        node("gateway", tmp_path / "gateway", nats_url=broker.url, grpc_port=0, providers="") as gateway,
        node("edge", tmp_path / "edge", **scene.edge(nats_url=broker.url, policy=scene.split)) as edge,
    ):
        ports = {
            "splitmesh-edge": port_of(edge),
            "splitmesh-cloud": port_of(worker),
            "splitmesh-gateway": port_of(gateway),
        }
        prometheus = Prometheus(tmp_path / "prometheus", ports)
        async with prometheus.running(program):
            await prometheus.until("up == 1", count=3)
            for recorded in (
                "instance:splitmesh_miss:ratio_rate5m",
                "fleet:splitmesh_miss:ratio_rate5m",
                "instance:splitmesh_frame_latency_seconds:p95_rate5m > 0",
                "instance:splitmesh_uplink:share_rate5m > 0",
                "pool:splitmesh_predicted_wait_seconds:avg >= 0",
            ):
                await prometheus.until(recorded)
            quiet = "EdgeDown|GatewayDown|FramesUnaccounted"
            assert await prometheus.asked(f'ALERTS{{alertname=~"Splitmesh({quiet}|WorkerDown|PoolGone)"}}') == []
            await worker.stop(signal.SIGKILL)
            for alert in ("SplitmeshWorkerDown", "SplitmeshPoolGone"):
                (fired,) = await prometheus.until(f'ALERTS{{alertname="{alert}", alertstate="firing"}}')
                assert fired["metric"]["severity"] in ("ticket", "page")
            assert await prometheus.asked(f'ALERTS{{alertname=~"Splitmesh({quiet})"}}') == []
