"""Owns the slim head of payloads whose shapes and names follow from a calibration table. Knows no codec's inside.

Layout, little endian:

    2s  magic "SM"   B  version (2)   B  codec id   B  level   B  flags   4s  first bytes of the table's id
    stateful codecs only:   H  frame number   H  number of the frame it builds on   I  hash of that frame's state
    I   CRC-32 of all of the above and of all that follows

`parse_head` checks the checksum before it believes anything, and allocates nothing: the body is a view.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from splitmesh.codec.container import MAGIC, MAX_PAYLOAD_BYTES, Buffer
from splitmesh.codec.registry import CODECS, codec_name, wire_id
from splitmesh.errors import CodecError

VERSION: Final = 2
TABLE_ID_BYTES: Final = 4

_PLAIN: Final = struct.Struct("<2sBBBB4s")
_STATE: Final = struct.Struct("<HHI")
_CRC: Final = struct.Struct("<I")
HEAD_BYTES: Final = _PLAIN.size + _CRC.size
STATEFUL_HEAD_BYTES: Final = HEAD_BYTES + _STATE.size


@dataclass(frozen=True, slots=True)
class State:
    """Where a payload of a stateful codec stands in its stream."""

    number: int
    """Of this frame, modulo 2^16."""
    reference: int
    """Of the frame that it builds on; its own for a frame that stands alone."""
    hash: int
    """Of the reference's state, 32 bits: a decoder whose state differs must not go on. 0 for a frame that stands
    alone."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a payload says of itself before its body."""

    codec: str
    level: int
    """0 … 255, meaning up to the codec."""
    flags: int
    """0 … 255, meaning up to the codec."""
    table: bytes
    """The first four bytes of the calibration table's id."""
    state: State | None = None
    """Of stateful codecs (`codec.registry.CODECS`), None for the others."""


def build_payload(head: Head, body: bytes) -> bytes:
    """Head and body in one payload, checksum included. Raises CodecError when a field is out of its range."""
    try:
        start = _PLAIN.pack(MAGIC, VERSION, wire_id(head.codec), head.level, head.flags, head.table)
        if head.state is not None:
            start += _STATE.pack(head.state.number, head.state.reference, head.state.hash)
    except struct.error as exc:
        raise CodecError(f"payload head {head} does not fit its layout: {exc}") from exc
    if len(head.table) != TABLE_ID_BYTES or CODECS[head.codec].stateful != (head.state is not None):
        raise CodecError(f"payload head {head} does not fit codec {head.codec}")
    if len(start) + _CRC.size + len(body) > MAX_PAYLOAD_BYTES:
        raise CodecError(f"payload body of {len(body)} bytes exceeds {MAX_PAYLOAD_BYTES}")
    return b"".join((start, _CRC.pack(zlib.crc32(body, zlib.crc32(start))), body))


def parse_head(payload: Buffer) -> tuple[Head, memoryview]:
    """Head and body of `payload`, the body as a view.

    Raises CodecError when it is not a payload of this version, is cut short, or fails its checksum.
    """
    view = memoryview(payload)
    if not HEAD_BYTES <= len(view) <= MAX_PAYLOAD_BYTES:
        raise CodecError(f"payload of {len(view)} bytes is not within {HEAD_BYTES} … {MAX_PAYLOAD_BYTES}")
    magic, version, number, level, flags, table = _PLAIN.unpack_from(view)
    if magic != MAGIC or version != VERSION:
        raise CodecError(f"payload starts with {magic!r} version {version}, not {MAGIC!r} version {VERSION}")
    codec = codec_name(number)
    stateful = CODECS[codec].stateful
    end = _PLAIN.size + (_STATE.size if stateful else 0)
    if len(view) < end + _CRC.size:
        raise CodecError(f"payload of {len(view)} bytes is shorter than the head of {codec}")
    (crc,) = _CRC.unpack_from(view, end)
    body = view[end + _CRC.size :]
    if crc != zlib.crc32(body, zlib.crc32(view[:end])):
        raise CodecError("payload fails its checksum")
    state = State(*_STATE.unpack_from(view, _PLAIN.size)) if stateful else None
    return Head(codec, level, flags, table, state), body
