"""Owns the layout of a recording: chunks that check themselves and each other. Knows nothing of what they say.

    8s  magic "SMLOAD-R"    H  version (1)
    then chunks:  B kind    I bytes of the body    I CRC-32    body

Little endian. A chunk's CRC is over its kind, its length and its body, and begins with the CRC of the chunk before
it (0 for the first): a chunk that is changed, missing or in another place is noticed at that place. Kinds are H
(head, the first one), R (a request) and E (end, the last one). A file without its end was cut short; what is there
still counts.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from meshload.errors import LoadError

MAGIC: Final = b"SMLOAD-R"
VERSION: Final = 1
HEAD, REQUEST, END = b"H", b"R", b"E"
MAX_CHUNK_BYTES: Final = 2 * 1024 * 1024
"""A request on the bus is at most 1 MiB."""

_START: Final = struct.Struct("<8sH")
_CHUNK: Final = struct.Struct("<cII")
_SUM: Final = struct.Struct("<cI")


class RecordingError(LoadError):
    """The file is no recording, of another version, or damaged."""

    def __init__(self, path: Path, message: str, *, advice: str = "") -> None:
        super().__init__(f"{path}: {message}", advice=advice)


class ChunkWriter:
    """A new file that only its owner may read. Chunks are on their way to the disk as they come."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError if it can't be made, or is there already: a recording can't be made again."""
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        except FileExistsError as exc:
            raise RecordingError(path, "is there already", advice="choose another name, or remove it") from exc
        except OSError as exc:
            raise RecordingError(path, f"can't be written: {exc.strerror}", advice="choose another place") from exc
        self._file.write(_START.pack(MAGIC, VERSION))
        self.bytes = _START.size
        self._crc = 0

    def add(self, kind: bytes, body: bytes) -> None:
        """Raises RecordingError when the disk takes no more."""
        self._crc = _crc(kind, body, self._crc)
        try:
            self._file.write(_CHUNK.pack(kind, len(body), self._crc))
            self._file.write(body)
        except OSError as exc:
            raise self._full(exc) from exc
        self.bytes += chunk_bytes(len(body))

    def close(self) -> None:
        """All is on the disk afterwards. Raises RecordingError when the disk takes no more."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as exc:
            raise self._full(exc) from exc
        finally:
            with suppress(OSError):  # it tries to write the rest once more
                self._file.close()

    def _full(self, exc: OSError) -> RecordingError:
        return RecordingError(
            self.path, f"can't be written any more: {exc.strerror}", advice="what is there can be replayed"
        )


def chunk_bytes(body_bytes: int) -> int:
    """What a chunk takes in the file."""
    return _CHUNK.size + body_bytes


def read_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(kind, body) of every whole chunk, in order; none after the end.

    Ends early where the file was cut short. Raises RecordingError that says at which byte it is damaged.
    """
    try:
        with path.open("rb") as file:
            _check_start(path, file)
            yield from _chunks(path, file)
    except OSError as exc:
        raise RecordingError(path, f"can't be read: {exc.strerror}", advice="name a file of meshload record") from exc


def _check_start(path: Path, file: BinaryIO) -> None:
    start = file.read(_START.size)
    if len(start) < _START.size or not start.startswith(MAGIC):
        raise RecordingError(path, "is no recording", advice="name a file that meshload record wrote")
    version = _START.unpack(start)[1]
    if version != VERSION:
        raise RecordingError(path, f"has format {version}, this meshload reads {VERSION}")


def _chunks(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    crc, at = 0, _START.size
    while len(head := file.read(_CHUNK.size)) == _CHUNK.size:
        kind, size, expected = _CHUNK.unpack(head)
        if kind not in (HEAD, REQUEST, END) or size > MAX_CHUNK_BYTES or (kind == HEAD) != (at == _START.size):
            raise RecordingError(path, f"is damaged at byte {at}")
        body = file.read(size)
        if len(body) < size:
            return
        crc = _crc(kind, body, crc)
        if crc != expected:
            raise RecordingError(path, f"is damaged at byte {at}: its checksum is another")
        yield kind, body
        if kind == END:
            return
        at += chunk_bytes(size)


def _crc(kind: bytes, body: bytes, before: int) -> int:
    return zlib.crc32(body, zlib.crc32(_SUM.pack(kind, len(body)), before))
