"""Owns the envelope of every payload: magic, version, codec, level, tensor table, checksum. Knows no codec's inside.

Layout, little endian:

    2s  magic "SM"        B  version (1)        B  codec id        B  level        B  sections
    I   bytes that follow the head              I  CRC-32 of the ten bytes before it and of all that follows
    then per section:  B name length, name (UTF-8), B ndim, ndim × I dims, B mode, I side length, I data length
    then per section:  side bytes, data bytes

`parse` checks the checksum first and every length against what is really there, and allocates nothing that a
payload asks for: sections are views into it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from splitmesh.codec.registry import codec_name, wire_id
from splitmesh.errors import CodecError

MAGIC: Final = b"SM"
VERSION: Final = 1
MAX_SECTIONS: Final = 16
MAX_DIMENSIONS: Final = 4
MAX_NAME_BYTES: Final = 255
MAX_ELEMENTS: Final = 1 << 24
"""Elements of one tensor: 64 MB as float32, sixty times the largest cut worth sending."""
MAX_PAYLOAD_BYTES: Final = 1 << 26

_HEAD: Final = struct.Struct("<2sBBBBI")
_CRC: Final = struct.Struct("<I")
_TAIL: Final = struct.Struct("<BII")
HEAD_BYTES: Final = _HEAD.size + _CRC.size

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Section:
    """One tensor or picture: its name, its shape once decoded, how it was coded and its bytes."""

    name: str
    shape: tuple[int, ...]
    mode: int
    """0 … 255, meaning up to the codec."""
    side: Buffer
    data: Buffer

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Container:
    """A parsed payload. Its sections are views into the payload's bytes."""

    codec: str
    level: int
    sections: tuple[Section, ...]


def build(codec: str, level: int, sections: Sequence[Section]) -> bytes:
    """Join `sections` into one payload. Raises CodecError when one does not fit the layout's bounds."""
    if not 1 <= len(sections) <= MAX_SECTIONS:
        raise CodecError(f"a payload holds 1 … {MAX_SECTIONS} tensors, not {len(sections)}")
    table: list[Buffer] = []
    blobs: list[Buffer] = []
    for section in sections:
        name = section.name.encode()
        if len(name) > MAX_NAME_BYTES:
            raise CodecError(f"tensor name {section.name!r} exceeds {MAX_NAME_BYTES} bytes")
        _check_shape(section.name, section.shape)
        table.append(struct.pack(f"<B{len(name)}sB{len(section.shape)}I", len(name), name, len(section.shape),
                                 *section.shape))  # fmt: skip
        table.append(_TAIL.pack(section.mode, len(section.side), len(section.data)))
        blobs += (section.side, section.data)
    body = b"".join(table + blobs)
    if HEAD_BYTES + len(body) > MAX_PAYLOAD_BYTES:
        raise CodecError(f"payload of {HEAD_BYTES + len(body)} bytes exceeds {MAX_PAYLOAD_BYTES}")
    head = _HEAD.pack(MAGIC, VERSION, wire_id(codec), level, len(sections), len(body))
    return b"".join((head, _CRC.pack(zlib.crc32(body, zlib.crc32(head))), body))


def parse(payload: Buffer) -> Container:
    """Split `payload` into views of its sections.

    Raises CodecError when it is not a payload of this version, is truncated, has bytes left over, fails its
    checksum, or when a length in it lies.
    """
    view = memoryview(payload)
    if len(view) < HEAD_BYTES:
        raise CodecError(f"payload of {len(view)} bytes is shorter than its head of {HEAD_BYTES}")
    if len(view) > MAX_PAYLOAD_BYTES:
        raise CodecError(f"payload of {len(view)} bytes exceeds {MAX_PAYLOAD_BYTES}")
    magic, version, number, level, count, body_bytes = _HEAD.unpack_from(view)
    if magic != MAGIC:
        raise CodecError(f"payload starts with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise CodecError(f"payload has version {version}, this process reads {VERSION}")
    body = view[HEAD_BYTES:]
    if body_bytes != len(body):
        raise CodecError(f"payload announces {body_bytes} bytes after its head and has {len(body)}")
    (crc,) = _CRC.unpack_from(view, _HEAD.size)
    if crc != zlib.crc32(body, zlib.crc32(view[: _HEAD.size])):
        raise CodecError("payload fails its checksum")
    codec = codec_name(number)
    if not 1 <= count <= MAX_SECTIONS:
        raise CodecError(f"a payload holds 1 … {MAX_SECTIONS} tensors, not {count}")
    try:
        return Container(codec, level, _sections(body, count))
    except (struct.error, IndexError, UnicodeDecodeError) as exc:
        raise CodecError(f"payload's tensor table is cut short or malformed: {exc}") from exc


def _sections(body: memoryview, count: int) -> tuple[Section, ...]:
    rows: list[tuple[str, tuple[int, ...], int, int, int]] = []
    at = 0
    for _ in range(count):
        name_bytes = body[at]
        raw = bytes(body[at + 1 : at + 1 + name_bytes])
        if len(raw) != name_bytes:
            raise CodecError(f"a tensor name of {name_bytes} bytes runs past the payload's end")
        name = raw.decode()
        at += 1 + name_bytes
        dimensions = body[at]
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise CodecError(f"tensor {name!r} announces {dimensions} dimensions")
        shape = struct.unpack_from(f"<{dimensions}I", body, at + 1)
        _check_shape(name, shape)
        at += 1 + 4 * dimensions
        rows.append((name, shape, *_TAIL.unpack_from(body, at)))
        at += _TAIL.size
    if len({name for name, *_ in rows}) != count:
        raise CodecError("payload names a tensor twice")
    if sum(side + data for *_, side, data in rows) != len(body) - at:
        raise CodecError(f"payload's tensors announce other sizes than the {len(body) - at} bytes there are")
    sections = []
    for name, shape, mode, side_bytes, data_bytes in rows:
        middle, end = at + side_bytes, at + side_bytes + data_bytes
        sections.append(Section(name, shape, mode, body[at:middle], body[middle:end]))
        at = end
    return tuple(sections)


def _check_shape(name: str, shape: Sequence[int]) -> None:
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
        raise CodecError(
            f"tensor {name!r} has shape {tuple(shape)}, which is not 1 … {MAX_DIMENSIONS} positive dimensions "
            f"of at most {MAX_ELEMENTS} elements"
        )
