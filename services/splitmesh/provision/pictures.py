"""Owns which ways to code pictures this installation has, those of video libraries among them."""

from __future__ import annotations

from splitmesh.codec.coders import JPEG, PictureKind
from splitmesh.codec.registry import CODECS
from splitmesh.media.h264 import H264Coder, has_h264
from splitmesh.media.webp import WebpCoder, has_webp

H264_LEVELS = (20, 26, 32, 38)
"""CRF, best first."""


def picture_kinds() -> tuple[PictureKind, ...]:
    """JPEG, then WebP and H.264 without delay, where the libraries that are installed have them."""
    kinds = [JPEG]
    if has_webp():
        kinds.append(PictureKind("webp", CODECS["webp"].levels, WebpCoder))
    if has_h264():
        kinds.append(PictureKind("h264", H264_LEVELS, H264Coder))
    return tuple(kinds)
