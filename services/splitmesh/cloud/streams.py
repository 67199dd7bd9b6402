"""Owns the streams that a tenant's edges have open at a worker: bounded, and decoded in order of arrival.

An edge may open as many as it likes and keeps its latest few; edges together have a limit too, beyond which newcomers
are refused while the others are in use: whoever opens ten thousand streams ends nobody else's. `Streams` lives on the
event loop; a `Turn` is taken on an executor's thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from splitmesh.cloud.decoders import Content, StreamDecoder
from splitmesh.errors import NeedKeyframe, Overloaded
from splitmesh.wire.requests import InferRequest

MAX_PER_EDGE = 8
MAX_STREAMS = 256
MAX_BYTES = 512 * 1024 * 1024
IN_USE_NS = 5_000_000_000
"""A stream that was used since then makes no room for another edge's."""
MAX_AGE_NS = 60_000_000_000
MAX_WAITING = 64

Open = Callable[[bytes], StreamDecoder]
"""Makes the decoder that a stream's first payload asks for."""


class Turn:
    """One payload in its stream's order."""

    def __init__(self, stream: Stream, payload: bytes) -> None:
        self._stream = stream
        self._payload: bytes | None = payload
        self._value: Content | None = None
        self._error: Exception | None = None

    def take(self, open_decoder: Open) -> Content:
        """Decode what came before it and it; on an executor's thread. Raises CodecError, NeedKeyframe among them."""
        self._stream.decode_until(self, open_decoder)
        value, error = self._value, self._error
        self._value = self._error = None
        if error is not None:
            raise error
        if value is None:
            raise NeedKeyframe("this payload was given up before it was decoded")
        return value

    def drop(self) -> None:
        """It was refused: it is not decoded any more."""
        self._payload = self._value = None

    @property
    def waits(self) -> bool:
        return self._payload is not None

    def decode(self, decode: Callable[[bytes], Content]) -> None:
        payload, self._payload = self._payload, None
        if payload is None:
            return
        try:
            self._value = decode(payload)
        except Exception as exc:  # noqa: BLE001 - raised where the turn is taken
            self._error = exc


class Stream:
    """One open stream. `opened_by` says whose frames these are, and of which model and cut."""

    def __init__(self, opened_by: InferRequest, now_ns: int) -> None:
        self.opened_by = opened_by
        self.used_ns = now_ns
        self.bytes = 0
        self.proven = False
        """A payload of it was decoded."""
        self._decoder: StreamDecoder | None = None
        self._waiting: deque[Turn] = deque()
        self._order = threading.Lock()
        """Held for moments only: the event loop waits for it."""
        self._decoding = threading.Lock()

    def arrive(self, payload: bytes) -> Turn:
        """Raises Overloaded when too many of its payloads wait already."""
        with self._order:
            while self._waiting and not self._waiting[0].waits:
                self._waiting.popleft()
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded(f"{MAX_WAITING} payloads of this stream wait to be decoded")
            turn = Turn(self, payload)
            self._waiting.append(turn)
        return turn

    def decode_until(self, last: Turn, open_decoder: Open) -> None:
        """Decode what waits, up to `last`, which another thread may have done already."""
        with self._decoding:
            while last.waits:
                with self._order:
                    turn = self._waiting.popleft()
                turn.decode(lambda payload: self._decode(payload, open_decoder))

    def _decode(self, payload: bytes, open_decoder: Open) -> Content:
        if self._decoder is None:
            self._decoder = open_decoder(payload)
        content: Content = self._decoder.decode(payload)
        self.proven = True
        self.bytes = self._decoder.state_bytes
        return content


class Streams:
    """All streams that one tenant has open at a worker, by id; at most `most`, and `most_bytes` of memory."""

    def __init__(self, *, most: int = MAX_STREAMS, most_bytes: int = MAX_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._streams: OrderedDict[int, Stream] = OrderedDict()

    def find(self, stream: int, now_ns: int) -> Stream:
        """Raises NeedKeyframe if it is not open here."""
        found = self._streams.get(stream)
        if found is None:
            raise NeedKeyframe(f"stream {stream:08x} is not open here")
        self._use(stream, found, now_ns)
        return found

    def open(self, request: InferRequest, now_ns: int) -> Stream:
        """The stream that `request` names, opened if need be.

        Raises NeedKeyframe if its id is somebody else's, Overloaded if there is no room.
        """
        found = self._streams.get(request.stream)
        if found is None:
            self._make_room(request.edge_id, now_ns)
            found = Stream(request, now_ns)
        elif not _same(found.opened_by, request):
            raise NeedKeyframe(f"stream {request.stream:08x} is in use already")
        self._use(request.stream, found, now_ns)
        return found

    def trim(self, now_ns: int) -> None:
        """Drop what is too old, and the least recently used beyond the limit of bytes."""
        while self._streams:
            stream, oldest = next(iter(self._streams.items()))
            if now_ns - oldest.used_ns <= MAX_AGE_NS and self.bytes <= self._most_bytes:
                return
            del self._streams[stream]

    @property
    def bytes(self) -> int:
        return sum(stream.bytes for stream in self._streams.values())

    def __len__(self) -> int:
        return len(self._streams)

    def _use(self, stream: int, found: Stream, now_ns: int) -> None:
        found.used_ns = now_ns
        self._streams[stream] = found
        self._streams.move_to_end(stream)

    def _make_room(self, edge: str, now_ns: int) -> None:
        theirs = [stream for stream, each in self._streams.items() if each.opened_by.edge_id == edge]
        if len(theirs) >= MAX_PER_EDGE:
            del self._streams[theirs[0]]
        elif len(self._streams) >= self._most:
            idle = (s for s, e in self._streams.items() if not e.proven or now_ns - e.used_ns > IN_USE_NS)
            oldest = next(idle, None)
            if oldest is None:
                raise Overloaded(f"{self._most} streams are open here, and all are in use")
            del self._streams[oldest]

    def __repr__(self) -> str:
        return f"<Streams open={len(self._streams)} bytes={self.bytes}>"


def _same(first: InferRequest, later: InferRequest) -> bool:
    return (first.edge_id, first.model, first.cut) == (later.edge_id, later.model, later.cut)
