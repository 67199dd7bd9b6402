"""Owns the picture codec: RGB pictures ↔ one payload that holds a JPEG. Resizes and colour-swaps nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg

from splitmesh.codec.container import Buffer, Section, build, parse
from splitmesh.codec.registry import CODECS, check_level
from splitmesh.codec.scans import MAX_SCANS, too_many_scans
from splitmesh.errors import CodecError

RgbImage = npt.NDArray[np.uint8]

JPEG_CODECS: Final = ("jpeg", "roijpeg")
"""Codecs whose payload is a JPEG that any JPEG decoder reads."""

_MAX_SIDE_PX: Final = 65_500  # JPEG's own limit in libjpeg-turbo
_FULL_CHROMA_FROM: Final = 90
_HALF_CHROMA_FROM: Final = 80


def encode_picture(rgb: RgbImage, *, quality: int, codec: str = "jpeg") -> bytes:
    """Code `rgb` (H, W, 3) uint8 RGB as JPEG of `quality` 1 … 100; `codec` is the name in the payload.

    Chroma is kept whole from quality 90, halved across from 80, halved both ways below: at low quality the bytes
    are better spent on luma. Raises CodecError for another shape or dtype and for a quality out of range.
    """
    check_level(codec, quality)
    check_picture(rgb, None)
    if max(rgb.shape) > _MAX_SIDE_PX:
        raise CodecError(f"picture of {rgb.shape[1]}×{rgb.shape[0]} exceeds {_MAX_SIDE_PX} px")
    chroma = "444" if quality >= _FULL_CHROMA_FROM else "422" if quality >= _HALF_CHROMA_FROM else "420"
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality, "RGB", chroma)
    return build(codec, quality, [Section("", rgb.shape, 0, b"", jpeg)])


def decode_picture(payload: Buffer, *, expect: tuple[int, int]) -> RgbImage:
    """Decode a JPEG's payload into (H, W, 3) uint8 RGB; `expect` is (H, W).

    Raises CodecError when the payload is malformed, holds no JPEG, or when it or the JPEG inside announces another
    size than `expect`; that is checked before pixels are allocated.
    """
    section = picture_section(payload, codecs=JPEG_CODECS, expect=expect)
    if section.mode or len(section.side):
        raise CodecError("payload's section is not of a JPEG")
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(section.data)
        if (height, width) != tuple(expect):
            raise CodecError(f"JPEG is {width}×{height}, expected {expect[1]}×{expect[0]}")
        if too_many_scans(section.data):
            raise CodecError(f"JPEG has more than {MAX_SCANS} scans")
        picture: RgbImage = simplejpeg.decode_jpeg(section.data, "RGB")
    except ValueError as exc:
        raise CodecError(f"JPEG can't be decoded: {exc}") from exc
    return picture


def check_picture(rgb: RgbImage, size: tuple[int, int] | None) -> None:
    """Raises CodecError unless `rgb` is a picture (H, W, 3) uint8, of `size` (H, W) if that is given."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape) < 1:
        raise CodecError(f"picture is {rgb.dtype} {rgb.shape}, expected uint8 (H, W, 3)")
    if size is not None and rgb.shape[:2] != tuple(size):
        raise CodecError(f"picture is {rgb.shape[1]}×{rgb.shape[0]}, expected {size[1]}×{size[0]}")


def picture_section(payload: Buffer, *, codecs: Collection[str], expect: tuple[int, int]) -> Section:
    """The one section of a payload coded with one of `codecs` that holds a picture of `expect` (H, W).

    Raises CodecError for any other payload.
    """
    container = parse(payload)
    if container.codec not in CODECS or CODECS[container.codec].kind != "picture":
        raise CodecError(f"payload is coded with {container.codec!r}, which is not a picture codec")
    if container.codec not in codecs:
        raise CodecError(f"payload is coded with {container.codec!r}, not with {' or '.join(codecs)}")
    section = container.sections[0]
    if len(container.sections) != 1 or section.name or section.shape != (*expect, 3):
        raise CodecError(f"payload does not hold one picture of {expect[1]}×{expect[0]}")
    return section


class JpegCoder:
    """JPEG as the bench and the planner measure it: pictures of `size` (H, W) at quality `level`."""

    def __init__(self, level: int, size: tuple[int, int]) -> None:
        check_level("jpeg", level)
        self._level = level
        self._size = size

    @property
    def codec(self) -> str:
        return "jpeg"

    @property
    def level(self) -> int:
        return self._level

    def encode(self, rgb: RgbImage) -> bytes:
        check_picture(rgb, self._size)
        return encode_picture(rgb, quality=self._level)

    def decode(self, payload: Buffer) -> RgbImage:
        """Raises CodecError."""
        return decode_picture(payload, expect=self._size)

    def reset(self) -> None:
        """No picture builds on another."""
