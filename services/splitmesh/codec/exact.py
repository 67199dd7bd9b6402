"""Owns the exact picture codec: RGB pictures ↔ one payload that gives back every pixel. Loses none, at its price.

Each sample is the difference from the one left of it (the first of a row from 0), modulo 256, through zstd.
"""

from __future__ import annotations

import numpy as np

from splitmesh.codec.blocks import Block, compress, decompress
from splitmesh.codec.container import Buffer, Section, build
from splitmesh.codec.picture import RgbImage, check_picture, picture_section
from splitmesh.errors import CodecError

CODEC = "exact"
_LEVEL = 1


def encode_exact(rgb: RgbImage) -> bytes:
    """Code `rgb` (H, W, 3) uint8 RGB. Raises CodecError for another shape or dtype."""
    check_picture(rgb, None)
    differences = np.array(rgb)
    differences[:, 1:] -= rgb[:, :-1]
    return build(CODEC, _LEVEL, [Section("", rgb.shape, 0, b"", compress(differences, Block.ZSTD_SYMBOLS))])


def decode_exact(payload: Buffer, *, expect: tuple[int, int]) -> RgbImage:
    """The (H, W, 3) uint8 RGB picture in `payload`; `expect` is (H, W).

    Raises CodecError when the payload is malformed or of another size or codec; nothing larger is allocated.
    """
    section = picture_section(payload, codecs=(CODEC,), expect=expect)
    if section.mode or len(section.side):
        raise CodecError("payload's section is not of an exact picture")
    differences = decompress(section.data, section.elements, Block.ZSTD_SYMBOLS).reshape(section.shape)
    picture: RgbImage = np.add.accumulate(differences, axis=1, dtype=np.uint8)
    return picture
