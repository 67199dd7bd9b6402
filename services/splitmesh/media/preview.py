"""Owns the small JPEG of a picture that people look at. Draws nothing on it."""

from __future__ import annotations

import io

import av
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from splitmesh.errors import DecodeError

PREVIEW_QUALITY = 60


def preview_jpeg(picture: av.VideoFrame, *, longest_px: int, quality: int = PREVIEW_QUALITY) -> bytes:
    """`picture`, in any pixel format, as JPEG whose longest side is at most `longest_px`; never enlarged.

    Raises DecodeError if the picture can't be converted. May run on any thread.
    """
    scale = min(1.0, longest_px / max(picture.width, picture.height))
    width, height = (max(1, round(side * scale)) for side in (picture.width, picture.height))
    try:
        small = VideoReformatter().reformat(
            picture, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        rgb = small.to_ndarray()
    except (av.error.FFmpegError, ValueError) as exc:
        raise DecodeError(f"can't make a preview of a {picture.width}x{picture.height} picture: {exc}") from exc
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=quality)
    return out.getvalue()
