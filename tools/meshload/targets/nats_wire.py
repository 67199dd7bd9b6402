"""Owns one connection to a NATS broker, as light as it gets: one inbox for all replies, a few listeners beside it."""

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
OnMessage = Callable[[dict[str, str], bytes], None]
"""Takes headers and body of a message on a subject."""
_INBOX_SID = 1
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
        self._listeners: dict[int, OnMessage] = {}
        self._next_sid = _INBOX_SID
        self._settled: asyncio.Future[None] | None = None
        self._complaint = ""
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    @property
    def unwritten_bytes(self) -> int:
        """Which the broker has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def listen(self, subject: str, on_message: OnMessage) -> int:
        """Hear what is published on `subject`, which may hold wildcards; a number for `unlisten`."""
        self._next_sid += 1
        self._listeners[self._next_sid] = on_message
        self.write(b"SUB %s %d\r\n" % (subject.encode(), self._next_sid))
        return self._next_sid

    def unlisten(self, sid: int) -> None:
        self._listeners.pop(sid, None)
        self.write(b"UNSUB %d\r\n" % sid)

    async def settle(self, timeout_s: float) -> str:
        """Wait until the broker has taken all that was written; what it complained of until then, "" if nothing.

        Raises TimeoutError.
        """
        self._settled = asyncio.get_running_loop().create_future()
        self.write(b"PING\r\n")
        async with asyncio.timeout(timeout_s):
            await self._settled
        return self._complaint

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
        if self._settled and not self._settled.done():
            self._settled.set_result(None)
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
        else:
            words = line.split(b" ")
            listener = self._listeners.get(int(words[2]))
            if listener:
                head_bytes = int(words[-2]) if line.startswith(b"HMSG") else 0
                listener(_headers(body[:head_bytes]), body[head_bytes:])

    def _control(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            self.write(b"PONG\r\n")
        elif line.startswith(b"PONG"):
            waits = self.ready if self._settled is None else self._settled
            if not waits.done():
                waits.set_result(None)
        elif line.startswith(b"INFO "):
            self._greeted(line[5:])
        elif line.startswith(b"-ERR"):
            self._complaint = line[4:].decode("utf-8", "replace").strip(" '").lower()
        elif not line.startswith(b"+OK"):
            self._greeted(b"")  # a server of another kind

    def _greeted(self, text: bytes) -> None:
        """What the broker says of itself, JSON. Only the first counts."""
        if self.info.done():
            return
        try:
            info = json.loads(text)
        except ValueError:
            info = None
        if isinstance(info, dict):
            self.info.set_result(info)
        else:
            self.info.set_exception(ValueError("no NATS"))


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
            made.write(_hello(parts) + b"SUB %s* %d\r\nPING\r\n" % (made.inbox, _INBOX_SID))
            await made.ready
    except (OSError, TimeoutError, ValueError) as exc:
        await made.close()
        raise TargetError(words_for(exc), url=url, advice=advice_for(exc, "nats-server")) from exc
    return made


def _headers(block: bytes) -> dict[str, str]:
    """Of the lines behind the first, "NATS/1.0"."""
    lines = block.decode("utf-8", "replace").split("\r\n")[1:]
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


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
