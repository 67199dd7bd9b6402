"""The picture codec: fidelity by quality, size checks before pixels, truncated and hostile payloads."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.codec.container import HEAD_BYTES, Section, build
from splitmesh.codec.features import decode_features, encode_features
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.codec.registry import PICTURE_CODECS
from splitmesh.errors import CodecError

GOLDEN = Path(__file__).parents[1] / "golden" / "codec"


def scene(height: int = 60, width: int = 80) -> np.ndarray:
    """(H, W, 3) uint8: gradients with a red and a blue block, so that swapped channels show."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([255 * x // width, 255 * y // height, (x + y) % 256], axis=2).astype(np.uint8)
    picture[5:25, 5:25] = (220, 20, 30)
    picture[30:50, 40:70] = (10, 40, 230)
    return picture


def test_quality_orders_size_and_error_and_keeps_the_channel_order() -> None:
    picture = scene()
    sizes, errors = [], []
    for quality in PICTURE_CODECS["jpeg"]:
        payload = encode_picture(picture, quality=quality)
        out = decode_picture(payload, expect=(60, 80))
        assert out.shape == picture.shape and out.dtype == np.uint8
        sizes.append(len(payload))
        errors.append(float(np.square(out.astype(float) - picture).mean()))
    assert sizes == sorted(sizes, reverse=True) and errors == sorted(errors)
    assert (
        np.abs(decode_picture(encode_picture(picture, quality=95), expect=(60, 80))[15, 15] - (220.0, 20, 30)).max()
        < 12
    )


def test_views_that_are_not_contiguous_are_coded_as_seen() -> None:
    picture = scene()[:, ::-1]
    out = decode_picture(encode_picture(picture, quality=95), expect=(60, 80)).astype(float)
    assert np.abs(out - picture).mean() < 6


@pytest.mark.parametrize("quality", [0, 101, -1])
def test_quality_out_of_range(quality: int) -> None:
    with pytest.raises(CodecError, match="level"):
        encode_picture(scene(), quality=quality)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(CodecError, match="expected uint8"):
        encode_picture(picture, quality=85)


def test_another_size_is_refused_wherever_it_is_announced() -> None:
    payload = encode_picture(scene(), quality=85)
    with pytest.raises(CodecError, match="80×61"):
        decode_picture(payload, expect=(61, 80))
    huge = simplejpeg.encode_jpeg(np.zeros((2000, 2000, 3), np.uint8), 50)
    lie = build("jpeg", 50, [Section("", (60, 80, 3), 0, b"", huge)])
    with pytest.raises(CodecError, match="JPEG is 2000×2000"):
        decode_picture(lie, expect=(60, 80))


def test_features_and_pictures_are_not_mistaken_for_each_other() -> None:
    features = encode_features({"": np.ones((1, 3, 4, 4), np.float32)}, codec="u8lz4", level=8)
    with pytest.raises(CodecError, match="not a picture codec"):
        decode_picture(features, expect=(4, 4))
    with pytest.raises(CodecError, match="not a feature codec"):
        decode_features(encode_picture(scene(), quality=50), expect={"": (1, 3, 4, 4)})


def test_truncated_jpeg_with_a_fitting_checksum_is_refused() -> None:
    jpeg = simplejpeg.encode_jpeg(scene(), 85)
    for end in (0, 1, 2, 20, len(jpeg) // 2, len(jpeg) - 40):
        with pytest.raises(CodecError, match="JPEG"):
            decode_picture(build("jpeg", 85, [Section("", (60, 80, 3), 0, b"", jpeg[:end])]), expect=(60, 80))


@settings(max_examples=300)
@given(edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8))
def test_hostile_payloads_decode_to_the_expected_shape_or_raise(edits: list[tuple[int, int]]) -> None:
    payload = bytearray(encode_picture(scene(), quality=70))
    for at, value in edits:
        payload[at % len(payload)] = value
    head, body = bytes(payload[: HEAD_BYTES - 4]), bytes(payload[HEAD_BYTES:])
    sealed = head + zlib.crc32(head + body).to_bytes(4, "little") + body
    try:
        assert decode_picture(sealed, expect=(60, 80)).shape == (60, 80, 3)
    except CodecError:
        return


def test_golden_picture_still_decodes() -> None:
    out = decode_picture((GOLDEN / "jpeg-85.bin").read_bytes(), expect=(60, 80)).astype(float)
    assert np.abs(out - scene()).mean() < 8
