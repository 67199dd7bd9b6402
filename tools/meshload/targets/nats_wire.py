"""Owns one connection to a NATS broker, as light as it gets: one inbox for all replies, one listener beside it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import SplitResult, unquote

from meshload.errors import TargetError
from meshload.targets import TargetOptions
from meshload.targets.network import advice_for, tls_context, words_for

OnReply = Callable[[int, bytes | None], None]
_INBOX_SID = b"1"
_LISTEN_SID = b"2"
_CLOSE_S = 1.0


class Connection(asyncio.Protocol):
    """Reads what the broker says. `on_reply` gets the number at the end of the inbox and the body, or None where
    nobody listens on the subject; `on_lost` is called once, unless we closed.
    """

    def __init__(self, on_reply: OnReply, on_lost: Callable[[str], None]) -> None:
        self._on_reply, self._on_lost = on_reply, on_lost
        self.inbox = b"_INBOX.%s." % secrets.token_hex(8).encode()
        self._reply_starts = len(b"MSG ") + len(self.inbox)
        self.info: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.max_payload_bytes = 1 << 20
        self.server_version = ""
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._listener: Callable[[bytes], None] | None = None
        self._complaint = ""
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def listen(self, subject: str, on_message: Callable[[bytes], None]) -> None:
        self._listener = on_message
        self.write(b"SUB %s %s\r\n" % (subject.encode(), _LISTEN_SID))

    def unlisten(self) -> None:
        self._listener = None
        self.write(b"UNSUB %s\r\n" % _LISTEN_SID)

    async def close(self) -> None:
        self._closing = True
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.shield(self._gone)
        except TimeoutError:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._gone.done():
            self._gone.set_result(None)
        why = self._complaint or "connection lost"
        for future in (self.info, self.ready):
            if not future.done():
                future.set_exception(ConnectionError(why))
                future.exception()
                return
        if not self._closing:
            self._on_lost(why)

    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        at, size = 0, len(buffer)
        while True:
            end = buffer.find(b"\r\n", at)
            if end < 0:
                break
            kind = buffer[at : at + 4]
            if kind == b"MSG " or kind == b"HMSG":
                line = buffer[at:end]
                start = end + 2
                stop = start + int(line[line.rfind(b" ") + 1 :])
                if stop + 2 > size:
                    break
                self._message(line, buffer[start:stop])
                at = stop + 2
            else:
                self._control(buffer[at:end])
                at = end + 2
        self._rest = buffer[at:] if at < size else b""

    def _message(self, line: bytes, body: bytes) -> None:
        if line.startswith(self.inbox, 4):
            start = self._reply_starts
            self._on_reply(int(line[start : line.find(b" ", start)], 16), body)
        elif line.startswith(self.inbox, 5):  # with headers: the broker's own word, or a responder that sends some
            words = line.split(b" ")
            head_bytes = int(words[-2])
            nobody = body[: body.find(b"\r\n")].endswith(b" 503")
            self._on_reply(int(words[1][len(self.inbox) :], 16), None if nobody else body[head_bytes:])
        elif self._listener:
            self._listener(body)

    def _control(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            self.write(b"PONG\r\n")
        elif line.startswith(b"PONG"):
            if not self.ready.done():
                self.ready.set_result(None)
        elif line.startswith(b"INFO "):
            if not self.info.done():
                self.info.set_result(json.loads(line[5:]))
        elif line.startswith(b"-ERR"):
            self._complaint = line[4:].decode("utf-8", "replace").strip(" '").lower()


async def connect(
    url: str, parts: SplitResult, options: TargetOptions, on_reply: OnReply, on_lost: Callable[[str], None]
) -> Connection:
    """A connection that the broker has accepted. Raises TargetError."""
    loop = asyncio.get_running_loop()
    made = Connection(on_reply, on_lost)
    host, port = parts.hostname or "", parts.port or 4222
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            transport, _ = await loop.create_connection(lambda: made, host, port)
            info = await made.info
            if info.get("tls_required") or options.tls_ca or options.tls_insecure:
                secured = await loop.start_tls(
                    transport, made, tls_context(options.tls_ca, insecure=options.tls_insecure), server_hostname=host
                )
                made.connection_made(cast(asyncio.Transport, secured))
            made.max_payload_bytes = int(info.get("max_payload", 1 << 20))
            made.server_version = str(info.get("version", "?"))
            made.write(_hello(parts) + b"SUB %s* %s\r\nPING\r\n" % (made.inbox, _INBOX_SID))
            await made.ready
    except (OSError, TimeoutError, ValueError) as exc:
        await made.close()
        raise TargetError(words_for(exc), url=url, advice=advice_for(exc, "nats-server")) from exc
    return made


def _hello(parts: SplitResult) -> bytes:
    options: dict[str, object] = {
        "verbose": False, "pedantic": False, "headers": True, "no_responders": True,
        "name": "meshload", "lang": "python", "version": "1", "protocol": 1,
    }  # fmt: skip
    if parts.username and parts.password is None:
        options["auth_token"] = unquote(parts.username)
    elif parts.username:
        options |= {"user": unquote(parts.username), "pass": unquote(parts.password or "")}
    return b"CONNECT %s\r\n" % json.dumps(options).encode()
