"""The exact picture codec: every pixel back, and what is malformed refused."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.codec.blocks import Block, compress
from splitmesh.codec.container import Section, build
from splitmesh.codec.exact import decode_exact, encode_exact
from splitmesh.codec.picture import encode_picture
from splitmesh.errors import CodecError

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))


@given(hnp.arrays(np.uint8, SIZES))
def test_every_pixel_comes_back(picture: np.ndarray) -> None:
    height, width = picture.shape[:2]
    assert np.array_equal(decode_exact(encode_exact(picture), expect=(height, width)), picture)


def test_a_smooth_picture_is_short() -> None:
    ramp = np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 180, axis=0).repeat(3, axis=2)
    assert len(encode_exact(ramp)) < ramp.nbytes / 50


@given(data=st.data())
def test_altered_bytes_are_refused(data: st.DataObject) -> None:
    payload = bytearray(encode_exact(np.full((5, 6, 3), 7, np.uint8)))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CodecError):
        decode_exact(bytes(payload), expect=(5, 6))


CHUNK = compress(np.zeros(90, np.uint8), Block.ZSTD_SYMBOLS)


@pytest.mark.parametrize(
    "payload",
    [
        build("exact", 1, [Section("", (5, 6, 3), 1, b"", CHUNK)]),
        build("exact", 1, [Section("", (5, 6, 3), 0, b"x", CHUNK)]),
        build("exact", 1, [Section("", (6, 5, 3), 0, b"", CHUNK)]),
        build("exact", 1, [Section("", (5, 6, 3), 0, b"", CHUNK[:-1])]),
        build("exact", 1, [Section("", (5, 6, 3), 0, b"", compress(np.zeros(91, np.uint8), Block.ZSTD_SYMBOLS))]),
        build("exact", 1, [Section("", (5, 6, 3), 0, b"", compress(np.zeros(90, np.uint8), Block.LZ4_BITPLANES))]),
        encode_picture(np.zeros((5, 6, 3), np.uint8), quality=90),
        b"",
    ],
)
def test_what_is_no_such_picture_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError):
        decode_exact(payload, expect=(5, 6))


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_only_pictures_are_coded(picture: np.ndarray) -> None:
    with pytest.raises(CodecError):
        encode_exact(picture)
