"""Owns one HTTP/2 connection of a client: its streams, its windows, and what became of each request on it.

Framing is h2's (https://python-hyper.org/projects/h2). A request's stream is free again when the server has answered
it whole, even if the server did not wait for all of the body.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from meshload.target import Done, Reply, Request, Status
from meshload.targets.http2_goaway import FrameTooLong, Goaway, GoawayFilter
from meshload.targets.http_request import answered

Headers: TypeAlias = list[tuple[bytes, bytes]]

_WINDOW_BYTES: Final = 1 << 24
"""What the server may send before it must wait for us: so much that our reading is not what is measured."""
_LAST_STREAM: Final = 2**31 - 1001
_FIELD_BYTES: Final = 32
"""What a header field counts beside its text: RFC 9113, 6.5.2."""


class Ask(NamedTuple):
    """A request on its way to a connection."""

    request: Request
    done: Done
    headers: Headers
    body: bytes


class _Stream:
    """One request on the connection."""

    __slots__ = ("done", "received", "request", "status", "unsent")

    def __init__(self, ask: Ask) -> None:
        self.request, self.done = ask.request, ask.done
        self.status = 0
        self.received = 0
        self.unsent = memoryview(ask.body)


class Connection(asyncio.Protocol):
    """on_room: called when streams may have ended. on_lost: the connection is gone."""

    def __init__(self, on_room: Callable[[], None], on_lost: Callable[[Connection], None]) -> None:
        self._h2 = H2Connection(
            H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self._on_room, self._on_lost = on_room, on_lost
        self._goaways = GoawayFilter()
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, _Stream] = {}
        self._numbers: dict[Request, int] = {}
        self._sending: deque[int] = deque()
        """Streams whose bodies the windows had no room for."""
        self._ending = False
        self._flushing = False
        self._greeting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._greeting.add_done_callback(lambda future: future.cancelled() or future.exception())  # seen

    @property
    def most_streams(self) -> int:
        """As many as the server allows at once; 2^32 + 1 where it sets no limit."""
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def has_room(self) -> bool:
        return not self._ending and self._transport is not None and len(self._streams) < self.most_streams

    @property
    def alpn(self) -> str | None:
        """The protocol that TLS agreed on."""
        secured = self._transport.get_extra_info("ssl_object") if self._transport else None
        return secured.selected_alpn_protocol() if secured is not None else None

    def takes(self, headers: Headers) -> bool:
        """Whether the server takes a list of header fields so long."""
        most = self._h2.remote_settings.max_header_list_size
        return most is None or sum(len(name) + len(value) + _FIELD_BYTES for name, value in headers) <= most

    async def greeted(self) -> None:
        """Wait for the server's settings. Raises ValueError for another protocol, ConnectionError if it goes."""
        await asyncio.shield(self._greeting)

    def ask(self, ask: Ask) -> None:
        """Only where there is room."""
        number = self._h2.get_next_available_stream_id()
        self._ending = self._ending or number > _LAST_STREAM
        self._streams[number] = _Stream(ask)
        self._numbers[ask.request] = number
        self._h2.send_headers(number, ask.headers, end_stream=not ask.body)
        if ask.body:
            self._sending.append(number)
            self._send_bodies()
        if not self._flushing:  # one write for all that is asked within one pass of the loop
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def cancel(self, request: Request) -> bool:
        """Whether it was on this connection; its `done` is not called any more."""
        number = self._numbers.pop(request, None)
        if number is None:
            return False
        del self._streams[number]
        self._reset(number)
        self._flush()
        self._close_if_done()
        return True

    def close(self) -> None:
        """Requests on it are forgotten."""
        self._streams.clear()
        self._numbers.clear()
        self._ending = True
        self._greeting.cancel()
        if self._transport is not None:
            self._transport.abort()

    # what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW_BYTES, SettingCodes.ENABLE_PUSH: 0})
        self._h2.increment_flow_control_window(_WINDOW_BYTES)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._ending = True
        self._on_lost(self)
        if not self._greeting.done():
            self._greeting.set_exception(ConnectionResetError("the server closed the connection"))
        self._fail(0, Reply(Status.ERROR, "connection lost"))

    def data_received(self, data: bytes) -> None:
        try:
            for piece in self._goaways.feed(data):
                if isinstance(piece, Goaway):
                    self._going(piece)
                else:
                    for event in self._h2.receive_data(piece):
                        self._take(event)
        except (ProtocolError, FrameTooLong):
            self._broken()
            return
        self._send_bodies()
        self._flush()
        self._on_room()
        self._close_if_done()

    # what HTTP/2 tells

    def _take(self, event: events.Event) -> None:
        match event:
            case events.DataReceived(stream_id=int(number)):
                if event.flow_controlled_length:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, number)
                if stream := self._streams.get(number):
                    stream.received += len(event.data or b"")
            case events.ResponseReceived(stream_id=int(number)):
                if stream := self._streams.get(number):
                    fields = event.headers or []
                    stream.status = next((int(value) for name, value in fields if name == b":status"), 0)
                    stream.received += sum(len(name) + len(value) for name, value in fields)
            case events.StreamEnded(stream_id=int(number)):
                if stream := self._streams.get(number):
                    if stream.unsent:
                        self._reset(number)  # else it would stay half open, and count against the limit
                    self._finish(number, answered(stream.status, stream.received))
            case events.StreamReset(stream_id=int(number)):
                refused = event.error_code in (ErrorCodes.REFUSED_STREAM, ErrorCodes.ENHANCE_YOUR_CALM)
                status = Status.REFUSED if refused else Status.ERROR
                self._finish(number, Reply(status, f"stream reset: {_words(event.error_code)}"))
            case events.RemoteSettingsChanged():
                if not self._greeting.done():
                    self._greeting.set_result(None)

    def _going(self, frame: Goaway) -> None:
        """The server takes no more streams, and has not begun those beyond the frame's last."""
        self._ending = True
        why = f": {_words(frame.code)}" if frame.code else ""
        if not self._greeting.done():
            self._greeting.set_exception(ConnectionResetError(f"the server goes away{why}"))
        self._fail(frame.last_stream, Reply(Status.REFUSED, f"server goes away{why}"))

    def _broken(self) -> None:
        """What came is not HTTP/2."""
        if not self._greeting.done():
            self._greeting.set_exception(ValueError("no HTTP/2"))
        self._ending = True
        self._flush()  # says why
        if self._transport is not None:
            self._transport.close()
        self._fail(0, Reply(Status.ERROR, "protocol error"))

    def _fail(self, last: int, reply: Reply) -> None:
        """All streams above `last`."""
        for number in [number for number in self._streams if number > last]:
            self._finish(number, reply)

    def _finish(self, number: int, reply: Reply) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        del self._numbers[stream.request]
        stream.done(stream.request, reply)

    def _close_if_done(self) -> None:
        if self._ending and not self._streams and self._transport is not None:
            self._transport.close()

    # what goes out

    def _send_bodies(self) -> None:
        """As much as the windows take, streams in turn."""
        for _ in range(len(self._sending)):
            number = self._sending.popleft()
            stream = self._streams.get(number)
            while stream is not None and stream.unsent:
                left = stream.unsent
                room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size, len(left))
                if room <= 0:
                    self._sending.append(number)
                    break
                self._h2.send_data(number, bytes(left[:room]), end_stream=room == len(left))
                stream.unsent = left[room:]

    def _reset(self, number: int) -> None:
        try:
            self._h2.reset_stream(number, ErrorCodes.CANCEL)
        except ProtocolError:
            return  # it has just ended, or the connection has

    def _flush(self) -> None:
        self._flushing = False
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)


def _words(code: ErrorCodes | int | None) -> str:
    """ "refused stream" for the error code 7, as RFC 9113, 7 names it."""
    try:
        return ErrorCodes(code or 0).name.lower().replace("_", " ")
    except ValueError:
        return f"code {code}"
