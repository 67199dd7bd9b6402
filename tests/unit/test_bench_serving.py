"""The load of `bench.serving`: what it counts, when, and how it reads NATS and HTTP off the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bench.serving_callers import WHOLE_BUDGET_US, HttpCaller, NatsWire
from bench.serving_load import closed, measure, opened, read_bodies, write_bodies
from bench.serving_report import figures, goodput, percentile, table
from bench.serving_tenants import figures as tenant_figures
from bench.serving_tenants import rises

from splitmesh.bus.base import Message
from splitmesh.bus.nats import connect_nats
from splitmesh.bus.server import EmbeddedServer


class Server:
    """Answers after a moment, or all at once when `gate` is set."""

    def __init__(self, gate: asyncio.Event | None = None, end: str = "ok") -> None:
        self.asked: list[tuple[int, int]] = []
        self.at_once = self.most_at_once = 0
        self._gate, self._end = gate, end

    async def call(self, index: int, budget_us: int = WHOLE_BUDGET_US) -> str:
        self.asked.append((index, budget_us))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await (self._gate.wait() if self._gate else asyncio.sleep(0.001))
        self.at_once -= 1
        return self._end

    def close(self) -> None:
        pass


def test_bodies_come_back_as_they_were(tmp_path: Path) -> None:
    bodies = [b"", b"\x00" * 300, b"abc"]
    write_bodies(tmp_path / "bodies", bodies)
    assert read_bodies(tmp_path / "bodies") == bodies


async def test_a_closed_loop_keeps_its_number_of_requests_under_way() -> None:
    server = Server()
    tally = await closed(server, clients=5, warm_s=0.02, seconds=0.05)
    assert server.most_at_once == 5
    assert 0 < len(tally.latency_ms) < tally.served == len(server.asked)
    assert len({index for index, _ in server.asked}) == len(server.asked)


async def test_an_open_loop_goes_on_sending_while_the_server_stalls() -> None:
    gate = asyncio.Event()
    server = Server(gate)
    asyncio.get_running_loop().call_later(0.3, gate.set)
    tally = await opened(server, rate=200.0, warm_s=0.0, seconds=0.2, seed=1, budget_us=7)
    assert server.most_at_once == len(server.asked) > 10
    assert {budget_us for _, budget_us in server.asked} == {7}
    assert max(tally.latency_ms) > 250, "the first ones waited for the whole stall"


async def test_refusals_count_as_such_and_have_no_latency() -> None:
    tally = await closed(Server(end="NACK_CODE_OVERLOADED"), clients=1, warm_s=0.0, seconds=0.02)
    assert set(tally.ends) == {"NACK_CODE_OVERLOADED"}
    assert tally.latency_ms == []
    assert tally.served == 0


class Sent:
    """What a transport was given."""

    def __init__(self) -> None:
        self.bytes = b""

    def write(self, data: bytes) -> None:
        self.bytes += data

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.bytes += b"".join(parts)


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_nats_replies_are_found_wherever_the_stream_is_cut(step: int) -> None:
    wire, sent = NatsWire(), Sent()
    wire.transport = sent
    first, second = wire.request(b"a.b", b"12", b"3"), wire.request(b"a.b", b"")
    assert sent.bytes.startswith(b"PUB a.b %b.0 3\r\n123\r\n" % wire._inbox)
    inbox = wire._inbox
    stream = b"PING\r\nMSG %b.1 1 2\r\n\r\n\r\nMSG %b.0 1 4\r\nMSG \r\n" % (inbox, inbox)
    for at in range(0, len(stream), step):
        wire.data_received(stream[at : at + step])
    assert (first.result(), second.result()) == (b"MSG ", b"\r\n")
    assert sent.bytes.endswith(b"PONG\r\n")


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "ok"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "HTTP 503"),
    ],
)
async def test_http_replies_are_taken_whole(reply: bytes, end: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\nbody")
            for at in range(0, len(reply), 7):
                writer.write(reply[at : at + 7])
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        caller = HttpCaller(server.sockets[0].getsockname()[1], "/", "text/plain", [b"body"])
        assert [await caller.call(0), await caller.call(1)] == [end, end]
        caller.close()


def run(rps: float, latency_ms: list[float], **more: object) -> dict[str, object]:
    zero = {"cpu_ms": 20.0, "broker_cpu_ms": 0.3, "load_cpu_ms": 0.2, "ends": {"ok": len(latency_ms)}, "seconds": 2.0}
    return {"rps": rps, "latency_ms": latency_ms, **zero, **more}


def visited(peak: float, bare: float) -> dict[str, object]:
    beside = {"rps": bare, "p50_ms": 10.0, "cpu_ms": 18.0}
    closed_loops = {"1": run(peak / 2, [12.5]), "8": run(peak, [80.0]), "256": run(0.9 * peak, [900.0])}
    return {"alone": beside, "before": beside, "after": beside, "closed": closed_loops, "open": run(1.0, [30.0])}


def test_figures_are_medians_and_ratios_of_neighbours() -> None:
    made = figures([visited(90.0, 100.0), visited(95.0, 100.0), visited(20.0, 40.0)])
    assert made["peak_rps"] == 90.0
    assert made["ratio_to_bare"] == 0.9, "of each round's own bare loop"
    assert made["added_p50_ms_c1"] == 2.5
    assert made["flatness"] == 0.9
    assert made["p95_ms_c32"] is None, "that loop was left out"
    assert made["goodput_2x"] is None


def test_goodput_counts_what_came_in_time() -> None:
    flood = run(0.0, [100.0] * 80 + [151.0] * 100)
    assert goodput(flood, capacity=50.0) == 0.8


def test_percentiles_stay_within_the_values() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 2.0, 3.0, 3.0]


def test_the_table_has_the_best_first_and_shows_what_is_missing() -> None:
    report = {"systems": {"slow": figures([visited(50.0, 100.0)]), "splitmesh": figures([visited(90.0, 100.0)])}}
    head, rows = table(report)
    assert [row[0] for row in rows] == ["**`splitmesh`**", "`slow`"]
    assert all(len(row) == len(head) for row in rows)
    assert "–" in rows[0]


def rounds(*latencies: float) -> list[dict[str, object]]:
    return [
        {"latency_ms": [each] * 10, "ends": {"ok": 10}, "noisy_ends": {"ok": 1, "quota": 9}, "worker_cpu": 0.5}
        for each in latencies
    ]


def test_what_others_notice_of_a_flood_is_pooled_over_rounds() -> None:
    of_all = tenant_figures(rounds(10.0, 20.0, 200.0))
    assert (of_all["requests"], of_all["p50_ms"], of_all["p99_ms"], of_all["late"]) == (30, 20.0, 200.0, 10)
    assert of_all["ends"] == {"ok": 30} and of_all["noisy_ends"] == {"ok": 3, "quota": 27}
    steady = rises(rounds(10.0, 10.0), rounds(11.0, 11.0), 0.99)
    assert steady == pytest.approx({"rise": 0.1, "low": 0.1, "high": 0.1})
    wild = rises(rounds(10.0, 20.0, 10.0), rounds(11.0, 60.0, 11.0), 0.99)
    assert wild["low"] == pytest.approx(0.1) and wild["rise"] == wild["high"] == pytest.approx(2.0)


async def test_a_run_of_several_loads_tells_each_apart(tmp_path: Path) -> None:
    write_bodies(tmp_path / "bodies", [b"x"])
    async with EmbeddedServer(store=tmp_path / "nats") as server, asyncio.timeout(20):
        bus = await connect_nats(server.url, name="echo", give_up_s=10)

        async def answer(message: Message) -> None:
            await bus.publish(message.reply, b"done")

        await bus.subscribe("work.*", answer)
        caller = {"kind": "nats", "ports": [server.port]}
        order = {"bodies": str(tmp_path / "bodies"), "warm_s": 0.0, "seconds": 0.2}
        each = [{**order, "caller": {**caller, "path": f"work.{clients}"}, "clients": clients} for clients in (1, 3)]
        runs = (await measure({"together": each}))["together"]
        assert [set(run["ends"]) for run in runs] == [{"ok"}, {"ok"}]
        assert all(run["rps"] > 0 for run in runs)
        await bus.drain()
