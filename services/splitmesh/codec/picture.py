"""Owns the picture codec: RGB pictures ↔ one payload that holds a JPEG. Resizes and colour-swaps nothing."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg

from splitmesh.codec.container import Buffer, Section, build, parse
from splitmesh.codec.registry import PICTURE_CODECS, check_level
from splitmesh.errors import CodecError

RgbImage = npt.NDArray[np.uint8]

_MAX_SIDE_PX: Final = 65_500  # JPEG's own limit in libjpeg-turbo
_FULL_CHROMA_FROM: Final = 90
_HALF_CHROMA_FROM: Final = 80


def encode_picture(rgb: RgbImage, *, quality: int) -> bytes:
    """Code `rgb` (H, W, 3) uint8 RGB as JPEG of `quality` 1 … 100.

    Chroma is kept whole from quality 90, halved across from 80, halved both ways below: at low quality the bytes
    are better spent on luma. Raises CodecError for another shape or dtype and for a quality out of range.
    """
    check_level("jpeg", quality)
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or min(rgb.shape) < 1:
        raise CodecError(f"picture is {rgb.dtype} {rgb.shape}, expected uint8 (H, W, 3)")
    if max(rgb.shape) > _MAX_SIDE_PX:
        raise CodecError(f"picture of {rgb.shape[1]}×{rgb.shape[0]} exceeds {_MAX_SIDE_PX} px")
    chroma = "444" if quality >= _FULL_CHROMA_FROM else "422" if quality >= _HALF_CHROMA_FROM else "420"
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality, "RGB", chroma)
    return build("jpeg", quality, [Section("", rgb.shape, 0, b"", jpeg)])


def decode_picture(payload: Buffer, *, expect: tuple[int, int]) -> RgbImage:
    """Decode a payload into (H, W, 3) uint8 RGB; `expect` is (H, W).

    Raises CodecError when the payload is malformed, is no picture, or when it or the JPEG inside announces another
    size than `expect`; that is checked before pixels are allocated.
    """
    container = parse(payload)
    if container.codec not in PICTURE_CODECS:
        raise CodecError(f"payload is coded with {container.codec!r}, which is not a picture codec")
    section = container.sections[0]
    if len(container.sections) != 1 or section.name or section.shape != (*expect, 3) or len(section.side):
        raise CodecError(f"payload does not hold one picture of {expect[1]}×{expect[0]}")
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(section.data)
        if (height, width) != tuple(expect):
            raise CodecError(f"JPEG is {width}×{height}, expected {expect[1]}×{expect[0]}")
        picture: RgbImage = simplejpeg.decode_jpeg(section.data, "RGB")
    except ValueError as exc:
        raise CodecError(f"JPEG can't be decoded: {exc}") from exc
    return picture
