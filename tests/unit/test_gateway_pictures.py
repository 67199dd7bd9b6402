"""From a picture that was sent to a payload: passed through, fitted, or refused by name."""

from __future__ import annotations

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from splitmesh.codec.container import Section, build, parse
from splitmesh.codec.exact import decode_exact
from splitmesh.codec.picture import decode_picture
from splitmesh.errors import CodecError, DecodeError, FrameShapeError
from splitmesh.frames.geometry import Fit
from splitmesh.gateway.pictures import (
    MAX_SIDE_PX,
    InputPicture,
    decoded,
    fit_encoded,
    fit_pixels,
    passed_through,
    raw_picture,
)

STRETCH = InputPicture(64, 48, Fit.STRETCH, 114)
LETTERBOX = InputPicture(64, 64, Fit.LETTERBOX, 114)


def ramp(width: int, height: int) -> np.ndarray:
    """Smooth, so that JPEG and resizing change little: red grows to the right, green downwards."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, :, 0] = np.linspace(0, 250, width)[None, :]
    picture[:, :, 1] = np.linspace(0, 250, height)[:, None]
    return picture


def jpeg(picture: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(picture), 95, "RGB", "444")


def file_of(picture: np.ndarray, kind: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(out, kind, **options)
    return out.getvalue()


def shown(payload: bytes, wanted: InputPicture) -> np.ndarray:
    return decode_picture(payload, expect=(wanted.height, wanted.width)).astype(int)


def test_a_jpeg_of_the_models_size_goes_through_byte_by_byte() -> None:
    data = jpeg(ramp(64, 48))
    fitted = passed_through(data, STRETCH)
    assert fitted is not None and bytes(parse(fitted.payload).sections[0].data) == data


@pytest.mark.parametrize(
    "data",
    [
        jpeg(ramp(48, 64)),
        jpeg(ramp(63, 48)),
        file_of(ramp(64, 48), "PNG"),
        file_of(ramp(64, 48), "JPEG", "CMYK"),
        b"\xff\xd8\xff",
        b"",
    ],
    ids=["turned", "smaller", "png", "cmyk", "cut", "none"],
)
def test_nothing_else_does(data: bytes) -> None:
    assert passed_through(data, STRETCH) is None


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (1283, 961), (40, 30), (64, 480)])
def test_a_stretched_picture_shows_the_same(size: tuple[int, int]) -> None:
    exact = decode_exact(fit_pixels(ramp(*size), STRETCH).payload, expect=(48, 64)).astype(int)
    for picture in (exact, shown(fit_encoded(jpeg(ramp(*size)), STRETCH).payload, STRETCH)):
        assert np.abs(picture - ramp(64, 48).astype(int)).max() <= 12


def test_pixels_of_the_models_size_arrive_as_they_are() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    assert np.array_equal(decode_exact(fit_pixels(noise, STRETCH).payload, expect=(48, 64)), noise)
    assert np.array_equal(
        decode_exact(fit_pixels(noise[::-1, ::-1], STRETCH).payload, expect=(48, 64)), noise[::-1, ::-1]
    )


def test_pixels_that_fit_no_request_go_as_a_jpeg() -> None:
    large = InputPicture(1200, 900, Fit.STRETCH, 114)
    noise = np.random.default_rng(1).integers(0, 256, (900, 1200, 3), np.uint8)
    smooth = np.repeat(np.repeat(noise[::30, ::30], 30, axis=0), 30, axis=1)
    assert parse(fit_pixels(smooth, large).payload).codec == "exact"
    fitted = fit_pixels(noise, large)
    assert parse(fitted.payload).codec == "jpeg"


@pytest.mark.parametrize(
    ("size", "content"), [((320, 160), (64, 32)), ((100, 200), (32, 64)), ((640, 640), (64, 64))]
)
def test_a_letterboxed_picture_lies_where_its_placement_says(size: tuple[int, int], content: tuple[int, int]) -> None:
    fitted = fit_encoded(jpeg(ramp(*size)), LETTERBOX)
    place = fitted.placement
    assert (place.content_w, place.content_h) == content and (place.source_w, place.source_h) == size
    picture = shown(fitted.payload, LETTERBOX)
    within = picture[place.pad_top : place.pad_top + content[1], place.pad_left : place.pad_left + content[0]]
    assert np.abs(within - ramp(*content).astype(int))[2:-2, 2:-2].max() <= 14
    if content != (64, 64):
        assert np.abs(picture[0, 0] - 114).max() <= 6 and np.abs(picture[-1, -1] - 114).max() <= 6


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("BMP", "RGB"), ("TIFF", "RGB"), ("JPEG", "CMYK")],
)
def test_other_files_are_read(kind: str, mode: str) -> None:
    width, height, picture = decoded(file_of(ramp(80, 60), kind, mode), STRETCH)
    assert (width, height) == (80, 60) and picture.shape == (48, 64, 3)
    if mode == "RGB":
        assert np.abs(picture.astype(int) - ramp(64, 48)).max() <= 4


def test_a_large_jpeg_is_decoded_small_and_still_placed_by_its_own_size() -> None:
    width, height, picture = decoded(jpeg(ramp(1280, 960)), STRETCH)
    assert (width, height) == (1280, 960)
    assert 48 <= picture.shape[0] < 960 and 64 <= picture.shape[1] < 1280


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"GIF89a" + bytes(100),
        file_of(ramp(64, 48), "PNG")[:100],
        jpeg(ramp(80, 48))[:300],
        b"\xff\xd8\xff" + bytes(100),
        b"\x89PNG\r\n\x1a\n" + bytes(40),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        fit_encoded(data, STRETCH)


def test_a_picture_that_would_fill_the_memory_is_refused_by_its_head() -> None:
    bomb = file_of(np.zeros((10, 10, 3), np.uint8), "PNG")
    wide = bomb[:16] + (60_000).to_bytes(4, "big") * 2 + bomb[24:]  # a head that announces 60 000 x 60 000
    with pytest.raises((FrameShapeError, DecodeError)):
        fit_encoded(wide, STRETCH)


def with_scans(data: bytes, more: int) -> bytes:
    """A progressive JPEG whose last scan comes `more` times again, of a dozen bytes each."""
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * more + data[-2:]


@pytest.mark.parametrize("size", [(64, 48), (2000, 1500)], ids=["of the model's size", "of another"])
def test_a_jpeg_of_thousands_of_scans_is_not_decoded(size: tuple[int, int]) -> None:
    data = file_of(ramp(*size), "JPEG", progressive=True)
    fit_encoded(data, STRETCH)
    bomb = with_scans(data, 200)
    assert passed_through(bomb, STRETCH) is None
    with pytest.raises(DecodeError, match="more than 100 scans"):
        fit_encoded(bomb, STRETCH)
    with pytest.raises(CodecError, match="more than 100 scans"):
        decode_picture(
            build("jpeg", 95, [Section("", (size[1], size[0], 3), 0, b"", bomb)]), expect=(size[1], size[0])
        )


def test_what_follows_a_jpeg_or_lies_in_its_head_is_no_scan_of_it() -> None:
    """As of a telephone's, with a film after it and a small picture in it."""
    data = jpeg(ramp(64, 48))
    noted = data[:2] + b"\xff\xe1\x10\x00" + b"\xff\xda" * 2047 + data[2:] + b"\xff\xda\x00\x02" * 1000
    assert passed_through(noted, STRETCH) is not None and fit_encoded(noted, STRETCH).payload


@pytest.mark.parametrize(
    ("pixels", "width", "height"),
    [(b"", 0, 0), (bytes(12), 2, 1), (bytes(3), 1, 2), (b"", MAX_SIDE_PX + 1, 1), (bytes(12), 4, -1)],
)
def test_pixels_that_do_not_agree_with_their_size_are_refused(pixels: bytes, width: int, height: int) -> None:
    with pytest.raises(FrameShapeError):
        raw_picture(pixels, width, height)


def test_pixels_are_rows_of_red_green_blue() -> None:
    picture = raw_picture(bytes(range(18)), 3, 2)
    assert picture.shape == (2, 3, 3) and picture[1, 0].tolist() == [9, 10, 11]
