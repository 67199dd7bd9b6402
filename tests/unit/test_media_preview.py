"""Previews: small, true to the picture, never enlarged."""

from __future__ import annotations

import av
import numpy as np
import pytest
import simplejpeg

from splitmesh.media.preview import preview_jpeg


def picture(width: int, height: int, pixel_format: str = "yuv420p") -> av.VideoFrame:
    """Red on the left, blue on the right."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[:, : width // 2, 0] = 220
    rgb[:, width // 2 :, 2] = 220
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixel_format)


@pytest.mark.parametrize(
    ("size", "longest_px", "expected"),
    [
        ((640, 360), 320, (320, 180)),
        ((360, 640), 320, (180, 320)),
        ((320, 240), 640, (320, 240)),
        ((1000, 2), 100, (100, 1)),
    ],
)
def test_the_longest_side_is_at_most_what_was_asked(
    size: tuple[int, int], longest_px: int, expected: tuple[int, int]
) -> None:
    height, width, _, _ = simplejpeg.decode_jpeg_header(preview_jpeg(picture(*size), longest_px=longest_px))
    assert (width, height) == expected


@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "yuvj422p", "rgb24", "gray"])
def test_the_picture_is_shown_as_it_is(pixel_format: str) -> None:
    source = picture(320, 240, pixel_format)
    shown = simplejpeg.decode_jpeg(preview_jpeg(source, longest_px=160), "RGB").astype(int)
    expected = source.reformat(160, 120, "rgb24").to_ndarray().astype(int)
    assert np.abs(shown - expected)[:, 8:72].mean() < 4 and np.abs(shown - expected)[:, 88:152].mean() < 4


def test_lower_quality_takes_fewer_bytes() -> None:
    rng = np.random.default_rng(1)
    noise = av.VideoFrame.from_ndarray(rng.integers(0, 255, (120, 160, 3), np.uint8), format="rgb24")
    assert len(preview_jpeg(noise, longest_px=160, quality=20)) < len(preview_jpeg(noise, longest_px=160)) / 1.5
