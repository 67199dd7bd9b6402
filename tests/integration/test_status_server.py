"""Status pages over real HTTP: formats, readiness, a taken port, and a stop that leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from splitmesh.errors import SettingsError
from splitmesh.frames.status import EdgeStatus
from splitmesh.policy.point import Place
from splitmesh.telemetry.metrics import Metrics
from splitmesh.web.server import StatusServer


class Fixture:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.ready: tuple[bool, str] = (False, "no broker yet")
        self.status = EdgeStatus("e1", "adaptive", 1.0, 3)

    def server(self, port: int = 0) -> StatusServer:
        return StatusServer(
            "127.0.0.1",
            port,
            registry=self.metrics.registry,
            status=lambda: self.status.to_json(),
            ready=lambda: self.ready,
        )


@pytest.fixture
async def served() -> AsyncIterator[tuple[Fixture, StatusServer]]:
    fixture = Fixture()
    server = fixture.server()
    await server.start()
    yield fixture, server
    await server.stop()


def fetch(url: str, accept: str = "*/*") -> tuple[int, str, str]:
    request = urllib.request.Request(url, headers={"accept": accept, "connection": "close"})
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status, reply.headers["content-type"], reply.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.headers["content-type"], exc.read().decode()


async def get(url: str, accept: str = "*/*") -> tuple[int, str, str]:
    return await asyncio.to_thread(fetch, url, accept)


async def test_status_is_the_typed_value(served: tuple[Fixture, StatusServer]) -> None:
    fixture, server = served
    code, kind, body = await get(server.url + "/status")
    assert (code, kind) == (200, "application/json")
    assert EdgeStatus.from_json(json.loads(body)) == fixture.status


async def test_ready_follows_the_process_and_healthy_does_not(served: tuple[Fixture, StatusServer]) -> None:
    fixture, server = served
    assert (await get(server.url + "/readyz"))[::2] == (503, "no broker yet\n")
    assert (await get(server.url + "/healthz"))[0] == 200
    fixture.ready = (True, "")
    assert (await get(server.url + "/readyz"))[::2] == (200, "ready\n")


async def test_metrics_in_both_formats(served: tuple[Fixture, StatusServer]) -> None:
    fixture, server = served
    fixture.metrics.edge.decided(Place.LOCAL, "local")
    fixture.metrics.edge.frame_latency_seconds.labels("local").observe(0.08, {"trace_id": "ab" * 16})
    code, kind, body = await get(server.url + "/metrics")
    assert code == 200 and kind.startswith("text/plain")
    assert 'splitmesh_decisions_total{place="local",point="local"} 1.0' in body
    assert "trace_id" not in body
    code, kind, body = await get(server.url + "/metrics", "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text") and body.endswith("# EOF\n")
    assert 'trace_id="' + "ab" * 16 in body


async def test_unknown_pages_are_404(served: tuple[Fixture, StatusServer]) -> None:
    assert (await get(served[1].url + "/etc/passwd"))[0] == 404


async def test_a_status_that_fails_is_a_500_and_the_server_lives(served: tuple[Fixture, StatusServer]) -> None:
    fixture, server = served

    def broken() -> dict[str, Any]:
        raise ZeroDivisionError

    server._status = broken
    assert (await get(server.url + "/status"))[0] == 500
    server._status = fixture.status.to_json
    assert (await get(server.url + "/status"))[0] == 200


async def test_a_taken_port_names_port_and_setting(served: tuple[Fixture, StatusServer]) -> None:
    second = Fixture().server(served[1].port)
    with pytest.raises(SettingsError) as caught:
        await second.start()
    assert str(served[1].port) in caught.value.message
    assert caught.value.key == "web_port" and "web_port" in caught.value.advice
    await second.stop()


async def test_an_address_that_is_not_ours_is_refused() -> None:
    server = StatusServer("192.0.2.1", 0, registry=Metrics().registry, status=dict, ready=lambda: (True, ""))
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1"):
        await server.start()


async def test_signals_stay_with_their_owner() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    server = Fixture().server()
    await server.start()
    assert (await get(server.url + "/healthz"))[0] == 200
    assert [signal.getsignal(number) for number in numbers] == before
    await server.stop()


async def test_stop_frees_the_port_even_with_an_idle_client() -> None:
    server = Fixture().server()
    await server.start()
    port = server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.wait_for(server.stop(), 5)
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
