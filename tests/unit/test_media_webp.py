"""The WebP codec: fidelity by quality, one kind of WebP and no other, sizes checked before pixels."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from splitmesh.codec.container import Section, build, parse
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.errors import CodecError
from splitmesh.media.clip import draw_picture, read_index
from splitmesh.media.webp import WebpCoder, decode_webp, encode_webp, has_webp

GOLDEN = Path(__file__).parents[1] / "golden" / "codec"
SIZE = (60, 80)


def picture(index: int = 37, size: tuple[int, int] = SIZE) -> np.ndarray:
    return draw_picture(index, width=size[1], height=size[0])


def payload(data: bytes) -> bytes:
    return build("webp", 50, [Section("", (*SIZE, 3), 0, b"", data)])


def data_of(coded: bytes) -> bytes:
    return bytes(parse(coded).sections[0].data)


def saved(**options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "WEBP", **options)
    return file.getvalue()


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def test_quality_orders_size_and_error() -> None:
    sizes, errors = [], []
    for level in (95, 85, 70, 50, 30, 1):
        coder = WebpCoder(level, SIZE)
        coded = coder.encode(picture())
        out = coder.decode(coded)
        assert out.shape == (*SIZE, 3) and out.dtype == np.uint8 and out.flags.writeable and read_index(out) == 37
        assert (parse(coded).codec, parse(coded).level) == (coder.codec, coder.level) == ("webp", level)
        sizes.append(len(coded))
        errors.append(error(out, picture()))
    assert sizes == sorted(sizes, reverse=True) and errors == sorted(errors) and errors[0] < 4


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (1, 300), (33, 17)])
def test_any_size_and_views_that_are_not_contiguous(size: tuple[int, int]) -> None:
    ramp = np.broadcast_to(np.minimum(np.arange(size[1]) * 3, 250)[None, ::-1, None], (*size, 3)).astype(np.uint8)
    out = decode_webp(encode_webp(ramp[:, ::-1], quality=90), expect=size)
    assert out.shape == ramp.shape and error(out, ramp[:, ::-1]) < 4


def _cut(data: bytes, end: int) -> bytes:
    """The first `end` bytes, as a file that says it is no longer."""
    return data[:4] + struct.pack("<I", end - 8) + data[8:16] + struct.pack("<I", end - 20) + data[20:end]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: saved(lossless=True), "no lossy still"),
        (lambda: saved(save_all=True, append_images=[Image.fromarray(picture(38))]), "no lossy still"),
        (lambda: saved(exif=b"Exif\0\0" + bytes(20)), "no lossy still"),
        (lambda: saved() + b"\0\0", "another length"),
        (lambda: saved()[:-2], "another length"),
        (lambda: saved()[:20], "shorter than its head"),
        (lambda: b"", "shorter than its head"),
        (lambda: data_of(encode_picture(picture(), quality=50)), "no lossy still"),
        (lambda: saved()[:20] + bytes([saved()[20] | 1]) + saved()[21:], "key frame"),
        (lambda: saved()[:26] + struct.pack("<HH", 80 | 1 << 14, 60) + saved()[30:], "expected 80×60"),
        (lambda: saved()[:26] + struct.pack("<HH", 16_383, 16_383) + saved()[30:], "16383×16383, expected 80×60"),
        (lambda: _cut(saved(), 40), "decoded"),
        (lambda: _cut(saved(), len(saved()) // 4 * 2), "decoded"),
    ],
)
def test_other_webps_are_refused(make: Callable[[], bytes], complaint: str) -> None:
    assert decode_webp(payload(saved()), expect=SIZE).shape == (*SIZE, 3)
    with pytest.raises(CodecError, match=complaint):
        decode_webp(payload(make()), expect=SIZE)


def test_other_codecs_and_sizes_are_refused() -> None:
    with pytest.raises(CodecError, match="'jpeg', not with webp"):
        decode_webp(encode_picture(picture(), quality=50), expect=SIZE)
    with pytest.raises(CodecError, match="'webp', not with jpeg"):
        decode_picture(encode_webp(picture(), quality=50), expect=SIZE)
    with pytest.raises(CodecError, match="80×61"):
        decode_webp(encode_webp(picture(), quality=50), expect=(61, 80))
    with pytest.raises(CodecError, match="not of a WebP"):
        decode_webp(build("webp", 50, [Section("", (*SIZE, 3), 1, b"", saved())]), expect=SIZE)


@pytest.mark.parametrize(
    ("rgb", "quality"),
    [
        (np.zeros((4, 4), np.uint8), 50),
        (np.zeros((4, 4, 3), np.float32), 50),
        (np.zeros((1, 16_384, 3), np.uint8), 50),
        (np.zeros((4, 4, 3), np.uint8), 0),
        (np.zeros((4, 4, 3), np.uint8), 101),
    ],
)
def test_what_can_t_be_coded_is_refused(rgb: np.ndarray, quality: int) -> None:
    with pytest.raises(CodecError):
        encode_webp(rgb, quality=quality)


@settings(max_examples=300)
@given(edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8))
def test_hostile_files_decode_to_the_expected_shape_or_raise(edits: list[tuple[int, int]]) -> None:
    data = bytearray(data_of(encode_webp(picture(), quality=70)))
    for at, value in edits:
        data[at % len(data)] = value
    try:
        assert decode_webp(payload(bytes(data)), expect=SIZE).shape == (*SIZE, 3)
    except CodecError:
        return


def test_golden_picture_still_decodes() -> None:
    assert has_webp()
    out = decode_webp((GOLDEN / "webp-85.bin").read_bytes(), expect=SIZE)
    assert read_index(out) == 37 and error(out, picture()) < 6
