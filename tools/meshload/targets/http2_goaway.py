"""Owns taking GOAWAY frames out of what an HTTP/2 server sends, before h2 reads it. Pure: no socket.

h2 takes a GOAWAY for the end of the connection and refuses all that comes after it
(https://github.com/python-hyper/h2/issues/1181). By RFC 9113, 6.8 streams up to the frame's last one go on, and a
server that shuts down in peace first sends 2^31 - 1, "begin no more", and later the stream that it really saw last.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

_HEADER_BYTES: Final = 9
_GOAWAY: Final = 7
_GOAWAY_BYTES: Final = 8
"""At least: last stream and error code; text for people may follow."""
_MOST_BYTES: Final = 1 << 14
"""Of any frame, as long as we ask for no more (RFC 9113, 4.2)."""


class Goaway(NamedTuple):
    """`last_stream`: streams above it were not begun. `code`: 0 for a shutdown in peace (RFC 9113, 7)."""

    last_stream: int
    code: int


Piece: TypeAlias = bytes | Goaway


class FrameTooLong(ValueError):
    """A frame that no server may send, so that it speaks another protocol. h2 itself would wait for the end of it."""


class GoawayFilter:
    """Reads one direction of one connection. Holds back no more than a GOAWAY, or a frame's header."""

    def __init__(self) -> None:
        self._held = b""
        self._skip = 0
        """Bytes of the frame under way that are still to come."""

    def feed(self, data: bytes) -> list[Piece]:
        """`data` in order, GOAWAY frames as values; those too short are left to h2. Raises FrameTooLong."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[Piece] = []
        start, at = 0, self._skip
        while at + _HEADER_BYTES <= len(data):
            size = int.from_bytes(data[at : at + 3], "big")
            if size > _MOST_BYTES:
                raise FrameTooLong(f"a frame of {size} bytes")
            end = at + _HEADER_BYTES + size
            if data[at + 3] == _GOAWAY and size >= _GOAWAY_BYTES:
                if end > len(data):
                    break
                if start < at:
                    pieces.append(data[start:at])
                payload = data[at + _HEADER_BYTES : end]
                last = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
                pieces.append(Goaway(last, int.from_bytes(payload[4:8], "big")))
                start = end
            at = end
        if at < len(data):
            self._held, self._skip = data[at:], 0
        else:
            self._skip = at - len(data)
        if start < min(at, len(data)):
            pieces.append(data[start : min(at, len(data))] if start or at < len(data) else data)
        return pieces
