"""Servers whose latency is known: no-op, constant, bimodal, Pareto, and one that freezes. For checks of load testers.

Usage: python -m bench.meshload_servers http [--latency LATENCY] [--freeze AT:LENGTH]
       python -m bench.meshload_servers nats URL SUBJECT [--latency LATENCY] [--freeze AT:LENGTH]

LATENCY: none (the default), constant:MS, bimodal:MS:MS:SHARE (share of the second), pareto:MS:ALPHA (the least and
the tail's exponent). A freeze begins AT seconds after the first request and lasts LENGTH seconds: requests that come
meanwhile are answered when it ends. Prints one line of JSON with the port once it is ready; with --tell N another one
after N requests. With --awake it never sleeps, so that it is as punctual as can be, and takes a core. Ends when
standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from meshload.alarm import Alarm

BODY = b"x" * 128
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: text/plain\r\n\r\n%s" % (len(BODY), BODY)


@dataclass(frozen=True)
class Latency:
    """A distribution of times, ms."""

    kind: str
    values: tuple[float, ...] = ()

    @staticmethod
    def parse(text: str) -> Latency:
        kind, *values = text.split(":")
        return Latency(kind, tuple(map(float, values)))

    def draw_ms(self, rng: random.Random) -> float:
        return self.quantile_ms(rng.random())

    def quantile_ms(self, q: float) -> float:
        """The analytic quantile."""
        if self.kind == "constant":
            return self.values[0]
        if self.kind == "bimodal":
            first, second, share = self.values
            return first if q < 1 - share else second
        if self.kind == "pareto":
            least, alpha = self.values
            return float(least * (1 - q) ** (-1 / alpha))
        return 0.0


_SPIN_NS = 150_000
"""Woken so much early, the server waits for the very moment in a loop: waking up takes as long on an idle core."""


class Delayer:
    """Calls back after a drawn time, to some microseconds; at once without latency and freeze."""

    def __init__(
        self,
        latency: Latency,
        freeze: tuple[float, float] | None,
        *,
        tell: int = 0,
        spin_ns: int = _SPIN_NS,
        seed: int = 5,
    ) -> None:
        self._latency, self._freeze = latency, freeze
        self._rng = random.Random(seed)
        self._first_ns: int | None = None
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._alarm = Alarm(self._ring)
        self._tell, self._spin_ns = tell, spin_ns
        self.immediate = latency.kind == "none" and freeze is None and not tell

    def after(self, answer: Callable[[], None]) -> None:
        now_ns = time.monotonic_ns()
        if self._first_ns is None:
            self._first_ns = now_ns
        due_ns = now_ns + round(self._latency.draw_ms(self._rng) * 1e6)
        if self._freeze:
            start_ns = self._first_ns + round(self._freeze[0] * 1e9)
            end_ns = start_ns + round(self._freeze[1] * 1e9)
            if start_ns <= due_ns < end_ns:
                due_ns = end_ns
        self._count += 1
        if self._count == self._tell:
            print(json.dumps({"requests": self._count}), flush=True)
        heappush(self._due, (due_ns, self._count, answer))
        if self._due[0][1] == self._count:
            self._alarm.set(due_ns - self._spin_ns)

    def close(self) -> None:
        self._alarm.close()

    def _ring(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic_ns() + self._spin_ns:
            due_ns, _, answer = heappop(self._due)
            while time.monotonic_ns() < due_ns:
                pass
            answer()
        if self._due:
            self._alarm.set(self._due[0][0] - self._spin_ns)


class HttpServer(asyncio.Protocol):
    """Answers each request with the same 128 bytes. Requests must have a Content-Length or no body."""

    def __init__(self, delayer: Delayer) -> None:
        self._delayer = delayer
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data[:1] == b"\x16":  # the first byte of TLS
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self._transport.close()
            return
        buffer = self._rest + data if self._rest else data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            size = end + 4
            at = buffer.find(b"Content-Length: ", 0, end)
            if at >= 0:
                size += int(buffer[at + 16 : buffer.find(b"\r\n", at)])
            if len(buffer) < size:
                break
            buffer = buffer[size:]
            if self._delayer.immediate:
                self._transport.write(_ANSWER)
            else:
                self._delayer.after(self._answer)
        self._rest = buffer

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


class Responder(asyncio.Protocol):
    """Answers each request on a NATS subject, with as little work as can be."""

    def __init__(self, delayer: Delayer, subject: str) -> None:
        self._delayer, self._subject = delayer, subject.encode()
        self._rest = b""
        self._out: list[bytes] = []
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        hello = b'CONNECT {"verbose":false,"pedantic":false,"lang":"python","version":"1"}\r\n'
        self._transport.write(hello + b"SUB %s 1\r\nPING\r\n" % self._subject)

    def data_received(self, data: bytes) -> None:
        buffer, at = self._rest + data, 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            line = buffer[at:end]
            if not line.startswith(b"MSG "):
                self._control(line)
                at = end + 2
                continue
            _, _, _, reply_to, size = line.split(b" ")
            if len(buffer) < end + int(size) + 4:
                break
            at = end + int(size) + 4
            if self._delayer.immediate:
                self._out.append(b"PUB %s %d\r\n%s\r\n" % (reply_to, len(BODY), BODY))
            else:
                self._delayer.after(partial(self._answer, reply_to))
        self._rest = buffer[at:]
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _control(self, line: bytes) -> None:
        if line == b"PING":
            self._transport.write(b"PONG\r\n")
        elif line == b"PONG" and not self.ready.done():
            self.ready.set_result(None)

    def _answer(self, reply_to: bytes) -> None:
        self._transport.write(b"PUB %s %d\r\n%s\r\n" % (reply_to, len(BODY), BODY))


async def serve_http(
    latency: Latency, freeze: tuple[float, float] | None, *, tell: int = 0, spin_ns: int = _SPIN_NS
) -> None:
    delayer = Delayer(latency, freeze, tell=tell, spin_ns=spin_ns)
    server = await asyncio.get_running_loop().create_server(lambda: HttpServer(delayer), "127.0.0.1", 0, backlog=4096)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await _input_ends()


async def serve_nats(url: str, subject: str, latency: Latency, freeze: tuple[float, float] | None) -> None:
    responder = Responder(Delayer(latency, freeze), subject)
    where = urlsplit(url)
    await asyncio.get_running_loop().create_connection(lambda: responder, where.hostname or "", where.port or 4222)
    await responder.ready
    print(json.dumps({"port": where.port}), flush=True)
    await _input_ends()


async def _awake(serving: Coroutine[Any, Any, None]) -> None:
    """Serve in a loop that polls and never waits."""
    loop = asyncio.get_running_loop()
    running = True

    def again() -> None:
        if running:
            loop.call_soon(again)

    again()
    await serving
    running = False


async def _input_ends() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: ended.set() if not os.read(0, 1024) else None)
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("http", "nats"))
    parser.add_argument("where", nargs="*", help="nats: URL SUBJECT")
    parser.add_argument("--latency", type=Latency.parse, default=Latency("none"))
    parser.add_argument("--freeze", type=lambda text: tuple(map(float, text.split(":"))), default=None)
    parser.add_argument("--awake", action="store_true")
    parser.add_argument("--tell", type=int, default=0, metavar="N")
    asked = parser.parse_args()
    if asked.awake:
        uvloop.run(_awake(serve_http(asked.latency, asked.freeze, spin_ns=0)))
        return
    if asked.kind == "http":
        uvloop.run(serve_http(asked.latency, asked.freeze, tell=asked.tell))
    else:
        url, subject = asked.where
        uvloop.run(serve_nats(url, subject, asked.latency, asked.freeze))


if __name__ == "__main__":
    main()
