"""The H.264 stream on real video: every picture at once, its own, and a fraction of what each alone would take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splitmesh.errors import NeedKeyframe
from splitmesh.media.h264 import H264Coder, H264Decoder, H264Encoder
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source

SIDE = 300


@pytest.fixture(scope="module")
def pictures(shared: Path) -> list[np.ndarray]:
    """60 consecutive pictures (300, 300, 3) of a street, from a camera that stands still."""
    preparer, found = Preparer(SIDE, SIDE), []
    with open_source(shared / "media" / "vtest.avi", pace=False, hwaccel="none") as source:
        while len(found) < 60 and (captured := source.next(20)) is not None:
            assert captured.picture is not None
            prepared = preparer.prepare(captured.picture)
            found.append(prepared.rgb.copy())
            prepared.release()
    return found


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a.astype(float) - b).mean())


def test_every_picture_comes_out_at_once_and_is_its_own(pictures: list[np.ndarray]) -> None:
    coder = H264Coder(16, (SIDE, SIDE))
    sizes = []
    for index, rgb in enumerate(pictures):
        payload = coder.encode(rgb)
        out = coder.decode(payload)
        near = range(max(index - 3, 0), min(index + 4, len(pictures)))
        assert min(near, key=lambda other: error(out, pictures[other])) == index
        assert error(out, rgb) < 25
        sizes.append(len(payload))
    intra = H264Coder(16, (SIDE, SIDE), intra=True)
    assert sum(sizes) < 0.4 * sum(len(intra.encode(rgb)) for rgb in pictures)


def test_a_lossy_link_shows_right_pictures_or_none(pictures: list[np.ndarray]) -> None:
    encoder, decoder = H264Encoder((SIDE, SIDE), level=24), H264Decoder()
    lost = {3, 4, 17, 18, 30, 50}
    want_key, shown, refused = False, 0, 0
    for index, rgb in enumerate(pictures):
        coded = encoder.encode(rgb, key=want_key)
        if index in lost:
            want_key = False
            continue
        try:
            out = decoder.decode(coded.payload, expect=(SIDE, SIDE))
        except NeedKeyframe:
            want_key, refused = True, refused + 1
            continue
        want_key = False
        shown += 1
        assert error(out, rgb) < 80 and coded.number == index
    gaps = 4
    assert refused == gaps and shown == len(pictures) - len(lost) - gaps
