"""Owns the WebP picture codec: RGB pictures ↔ one payload that holds a lossy WebP. Refuses every other kind of WebP.

Pillow's libwebp, not FFmpeg's: at equal bytes its colour conversion is worth 0.4 dB, and it is no slower. Effort 4:
efforts 3 to 5 give the same picture for the same bytes; 2 takes half the time and 8 % more bytes, 6 twice the time
for 3 % fewer.
"""

from __future__ import annotations

import io
import struct
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from splitmesh.codec.container import Buffer, Section, build
from splitmesh.codec.picture import check_picture, picture_section
from splitmesh.codec.registry import check_level
from splitmesh.errors import CodecError

U8 = npt.NDArray[np.uint8]

MAX_SIDE_PX: Final = 16_383
"""The format's own limit."""
_EFFORT: Final = 4
_HEAD: Final = struct.Struct("<4sI4s4sI3s3sHH")
"""RIFF, its length, WEBP, VP8, its length (RIFF container); frame tag, start code, width, height (RFC 6386, 9.1)."""
_CHUNK_AT: Final = 20


def has_webp() -> bool:
    """True if this build of Pillow has libwebp."""
    return features.check("webp") is True


def encode_webp(rgb: U8, *, quality: int) -> bytes:
    """Code `rgb` (H, W, 3) uint8 RGB as lossy WebP of `quality` 1 … 100.

    Raises CodecError for another shape or dtype, for a quality or a side out of range, and without libwebp.
    """
    check_level("webp", quality)
    check_picture(rgb, None)
    if max(rgb.shape) > MAX_SIDE_PX:
        raise CodecError(f"picture of {rgb.shape[1]}×{rgb.shape[0]} exceeds {MAX_SIDE_PX} px")
    file = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(rgb)).save(file, "WEBP", quality=quality, method=_EFFORT)
    except (OSError, ValueError, KeyError) as exc:
        raise CodecError(f"picture can't be coded as WebP: {exc}", advice="see `splitmesh doctor`") from exc
    return build("webp", quality, [Section("", rgb.shape, 0, b"", file.getvalue())])


def decode_webp(payload: Buffer, *, expect: tuple[int, int]) -> U8:
    """Decode a payload into (H, W, 3) uint8 RGB; `expect` is (H, W).

    Raises CodecError when the payload is malformed, when what it holds is no lossy still WebP or has bytes left over,
    or when one of them announces another size than `expect`; that is checked before pixels are allocated.
    """
    section = picture_section(payload, codecs=("webp",), expect=expect)
    if section.mode or len(section.side):
        raise CodecError("payload's section is not of a WebP")
    data = bytes(section.data)
    _check(data, expect)
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            if (image.height, image.width) != tuple(expect) or getattr(image, "n_frames", 1) != 1:
                raise CodecError(f"WebP is {image.width}×{image.height}, expected {expect[1]}×{expect[0]}")
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, EOFError, SyntaxError) as exc:
        raise CodecError(f"WebP can't be decoded: {exc}") from exc


def _check(data: bytes, expect: tuple[int, int]) -> None:
    """Raises CodecError unless `data` is one RIFF file of one VP8 key frame of `expect` (H, W), and nothing else."""
    if len(data) < _HEAD.size:
        raise CodecError(f"WebP of {len(data)} bytes is shorter than its head of {_HEAD.size}")
    riff, riff_bytes, webp, kind, chunk_bytes, tag, start, width, height = _HEAD.unpack_from(data)
    if (riff, webp, kind) != (b"RIFF", b"WEBP", b"VP8 "):
        raise CodecError("data is no lossy still WebP")
    if riff_bytes + 8 != len(data) or _CHUNK_AT + chunk_bytes + chunk_bytes % 2 != len(data):
        raise CodecError(f"WebP announces another length than the {len(data)} bytes there are")
    if tag[0] & 1 or start != b"\x9d\x01\x2a":
        raise CodecError("WebP does not begin with a key frame")
    if (height, width) != tuple(expect):  # the two upper bits of each ask for scaling and must be clear
        raise CodecError(f"WebP is {width & 0x3FFF}×{height & 0x3FFF}, expected {expect[1]}×{expect[0]}")


class WebpCoder:
    """WebP as the bench and the planner measure it: pictures of `size` (H, W) at quality `level`."""

    def __init__(self, level: int, size: tuple[int, int]) -> None:
        check_level("webp", level)
        self._level = level
        self._size = size

    @property
    def codec(self) -> str:
        return "webp"

    @property
    def level(self) -> int:
        return self._level

    def encode(self, rgb: U8) -> bytes:
        check_picture(rgb, self._size)
        return encode_webp(rgb, quality=self._level)

    def decode(self, payload: Buffer) -> U8:
        """Raises CodecError."""
        return decode_webp(payload, expect=self._size)

    def reset(self) -> None:
        """No picture builds on another."""
