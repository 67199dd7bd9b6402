"""Pictures that are sharp where the last answer found something."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.codec.container import parse
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.codec.roi import RoiJpegCoder, encode_roi, roi_picture, sharp_blocks
from splitmesh.errors import CodecError

SIZE = (120, 165)
NO_BOXES = np.zeros((0, 4), np.float32)


def picture() -> np.ndarray:
    """(H, W, 3) uint8 with detail everywhere."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    base = 128 + 40 * np.sin(x / 5) * np.cos(y / 7)
    return (base[:, :, None] + rng.normal(0, 25, (*SIZE, 3))).clip(0, 255).astype(np.uint8)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("rows", "margin", "sharp"),
    [
        ([], 0.1, set()),
        ([(0, 0, 1, 1)], 0.0, {(r, c) for r in range(8) for c in range(11)}),
        ([(0.01, 0.01, 0.09, 0.12)], 0.0, {(0, 0)}),
        ([(0.01, 0.01, 0.09, 0.12)], 0.1, {(r, c) for r in range(2) for c in range(2)}),
        ([(0.99, 0.99, 1.0, 1.0)], 0.0, {(7, 10)}),
        ([(0.01, 0.01, 0.02, 0.02), (0.5, 0.5, 0.51, 0.51)], 0.0, {(0, 0), (3, 5), (3, 5)}),
        ([(-9.0, -9.0, 9.0, 0.02)], 0.0, {(0, c) for c in range(11)}),
        ([(0.9, 0.9, 0.1, 0.1)], 0.0, set()),
        ([(float("nan"), 0.0, 1.0, 1.0)], 0.0, set()),
    ],
)
def test_blocks_that_a_grown_box_touches_are_sharp(
    rows: list[tuple[float, ...]], margin: float, sharp: set[tuple[int, int]]
) -> None:
    found = sharp_blocks(boxes(*rows), SIZE, margin)
    assert found.shape == (8, 11)
    assert {(int(r), int(c)) for r, c in np.argwhere(found)} == sharp


def test_many_boxes_over_one_block_are_counted_without_overflow() -> None:
    many = np.tile(boxes((0.0, 0.0, 0.01, 0.01)), (70_000, 1))[: 1 << 16]
    assert sharp_blocks(many, SIZE, 0.0)[0, 0]


def test_regions_are_untouched_and_the_rest_is_coarse() -> None:
    rgb = picture()
    region = boxes((0.3, 0.3, 0.5, 0.6))
    out = roi_picture(rgb, region, margin=0.0, strength=80)
    sharp = sharp_blocks(region, SIZE, 0.0).repeat(16, axis=0).repeat(16, axis=1)[: SIZE[0], : SIZE[1]]
    np.testing.assert_array_equal(out[sharp], rgb[sharp])
    coarse = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(rgb, 20, "RGB", "420"), "RGB")
    np.testing.assert_array_equal(out[~sharp], coarse[~sharp])
    assert out is not rgb and roi_picture(rgb, boxes((0, 0, 1, 1)), margin=0.0, strength=80) is rgb


def test_bytes_follow_the_share_that_is_sharp() -> None:
    rgb = picture()
    plain = len(encode_picture(rgb, quality=85))
    sizes = [len(encode_roi(rgb, boxes((0.0, 0.0, share, 1.0)), quality=85)) for share in (0.01, 0.4, 0.7, 1.0)]
    assert sizes == sorted(sizes) and sizes[-1] == plain == len(encode_roi(rgb, None, quality=85))
    assert len(encode_roi(rgb, NO_BOXES, quality=85)) < 0.5 * plain


def test_any_jpeg_decoder_reads_it_and_the_payload_names_it() -> None:
    payload = encode_roi(picture(), boxes((0.2, 0.2, 0.4, 0.4)), quality=60)
    container = parse(payload)
    assert (container.codec, container.level) == ("roijpeg", 60)
    out = decode_picture(payload, expect=SIZE)
    np.testing.assert_array_equal(out, simplejpeg.decode_jpeg(container.sections[0].data, "RGB"))


def test_the_coder_follows_the_last_answer_and_looks_at_all_now_and_then() -> None:
    coder = RoiJpegCoder(85, SIZE, whole_every=4)
    rgb = picture()
    whole, region = encode_roi(rgb, None, quality=85), boxes((0.2, 0.2, 0.3, 0.3))
    assert coder.encode(rgb) == coder.encode(rgb) == whole, "no answer yet"
    coder.saw(region)
    sharp = encode_roi(rgb, region, quality=85)
    assert [coder.encode(rgb) for _ in range(5)] == [sharp, sharp, whole, sharp, sharp]
    assert (coder.codec, coder.level) == ("roijpeg", 85)
    coder.reset()
    assert coder.encode(rgb) == coder.encode(rgb) == whole
    np.testing.assert_array_equal(coder.decode(whole), decode_picture(whole, expect=SIZE))


@settings(max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    rows=st.lists(st.tuples(*[st.floats(width=32)] * 4), max_size=4),
    margin=st.floats(0, 0.5),
    strength=st.integers(0, 99),
)
def test_any_boxes_and_sizes(
    height: int, width: int, rows: list[tuple[float, float, float, float]], margin: float, strength: int
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    with np.errstate(all="raise"):
        out = roi_picture(rgb, boxes(*rows), margin=margin, strength=strength)
    assert out.shape == rgb.shape and out.dtype == np.uint8


@pytest.mark.parametrize(
    ("rgb", "region", "strength"),
    [
        (picture(), np.zeros(4, np.float32), 80),
        (picture(), np.zeros((1, 5), np.float32), 80),
        (picture(), NO_BOXES, 100),
        (picture(), NO_BOXES, -1),
        (picture().astype(np.float32), NO_BOXES, 80),
        (picture()[:, :, 0], NO_BOXES, 80),
    ],
)
def test_what_makes_no_sense_is_refused(rgb: np.ndarray, region: np.ndarray, strength: int) -> None:
    with pytest.raises(CodecError):
        roi_picture(rgb, region, margin=0.1, strength=strength)


def test_levels_and_sizes_out_of_range_are_refused() -> None:
    with pytest.raises(CodecError, match="roijpeg"):
        encode_roi(picture(), None, quality=0)
    with pytest.raises(CodecError, match="165×120"):
        RoiJpegCoder(85, (120, 160)).encode(picture())
