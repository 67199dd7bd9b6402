"""Preparation of real decoded pictures."""

from __future__ import annotations

import threading
import time
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest

from splitmesh.errors import FrameShapeError
from splitmesh.frames.geometry import Fit, Placement
from splitmesh.frames.normalize import Normalizer
from splitmesh.media.clip import draw_picture, read_index, write_test_clip
from splitmesh.media.prepare import Preparer
from splitmesh.plan.manifest import load_manifest


def yuv(index: int, width: int = 640, height: int = 272) -> av.VideoFrame:
    rgb = draw_picture(index, width=width, height=height)
    return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")


def test_stretch_keeps_the_picture_and_normalises_it() -> None:
    preparer = Preparer(300, 300, "RGB", (2 / 255,) * 3, (-1.0,) * 3)
    prepared = preparer.prepare(yuv(77))
    assert prepared.rgb.shape == (300, 300, 3) and prepared.rgb.flags.c_contiguous
    assert prepared.tensor.shape == (1, 3, 300, 300) and prepared.tensor.flags.c_contiguous
    assert prepared.luma.shape == (36, 64)
    assert read_index(prepared.rgb) == 77
    assert prepared.placement == Placement(640, 272, 300, 300, Fit.STRETCH)
    np.testing.assert_allclose(prepared.tensor[0, 0], prepared.rgb[:, :, 0] * (2 / 255) - 1, atol=1e-6)


def test_colours_survive() -> None:
    solid = np.zeros((90, 160, 3), np.uint8)
    solid[:] = (200, 30, 90)
    frame = av.VideoFrame.from_ndarray(solid, format="rgb24").reformat(format="yuv420p")
    for source in (frame, solid):
        prepared = Preparer(64, 64, "BGR").prepare(source)
        assert np.abs(prepared.rgb.astype(int) - (200, 30, 90)).max() <= 3
        assert np.abs(prepared.tensor[0, :, 32, 32] - (90, 30, 200)).max() <= 3


@pytest.mark.parametrize(("width", "height"), [(640, 272), (272, 640), (416, 416), (97, 61), (1920, 1080)])
def test_letterbox_pads_around_the_picture(width: int, height: int) -> None:
    prepared = Preparer(416, 416, fit="letterbox", pad_value=114).prepare(np.full((height, width, 3), 255, np.uint8))
    place = prepared.placement
    inner = prepared.rgb[
        place.pad_top : place.pad_top + place.content_h, place.pad_left : place.pad_left + place.content_w
    ]
    assert (inner >= 254).all()
    outside = np.ones((416, 416), bool)
    outside[place.pad_top : place.pad_top + place.content_h, place.pad_left : place.pad_left + place.content_w] = (
        False
    )
    assert (prepared.rgb[outside] == 114).all()
    assert outside.any() == (width != height)


def test_a_reused_buffer_is_padded_anew_when_the_source_changes_its_size() -> None:
    preparer = Preparer(128, 128, fit="letterbox", pad_value=7)
    white = np.full((64, 128, 3), 255, np.uint8)
    preparer.prepare(white).release()
    tall = preparer.prepare(np.ascontiguousarray(white.transpose(1, 0, 2)))
    assert (tall.rgb[:, :32] == 7).all() and (tall.rgb[:, 96:] == 7).all() and (tall.rgb[:, 33:95] > 250).all()
    assert tall.placement.pad_left == 32


def test_luma_ignores_padding_and_follows_motion() -> None:
    preparer = Preparer(416, 416, fit="letterbox")
    same, again, other = (preparer.prepare(yuv(index)).luma.astype(int) for index in (5, 5, 35))
    assert np.abs(same - again).max() == 0
    assert np.abs(same - other).mean() > 1
    assert preparer.prepare(np.full((90, 160, 3), 255, np.uint8)).luma.min() > 220


def test_buffers_are_reused_and_nothing_is_allocated_in_steady_state() -> None:
    preparer = Preparer(300, 300, "RGB", (2 / 255,) * 3, (-1.0,) * 3)
    frame = yuv(1)
    first = preparer.prepare(frame)
    addresses = {first.tensor.ctypes.data, first.rgb.ctypes.data, first.luma.ctypes.data}
    first.release()
    tracemalloc.start()
    try:
        preparer.prepare(frame).release()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            prepared = preparer.prepare(frame)
            assert {prepared.tensor.ctypes.data, prepared.rgb.ctypes.data, prepared.luma.ctypes.data} == addresses
            prepared.release()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 50_000  # numpy's casting window; one tensor alone is 1,080,000 bytes
    assert after - before < 5_000


def test_frames_in_flight_never_share_buffers_and_the_pool_is_bounded() -> None:
    preparer = Preparer(32, 32)
    held = [preparer.prepare(yuv(1, 64, 48)) for _ in range(80)]
    assert len({p.tensor.ctypes.data for p in held}) == 80
    for prepared in held:
        prepared.release()
        prepared.release()  # twice does no harm
    assert len(preparer._pool) == 32
    again = [preparer.prepare(yuv(1, 64, 48)) for _ in range(2)]
    assert again[0].tensor.ctypes.data != again[1].tensor.ctypes.data


def test_release_from_other_threads() -> None:
    preparer = Preparer(32, 32)
    picture = yuv(1, 64, 48)
    threads = []
    for _ in range(100):
        thread = threading.Thread(target=preparer.prepare(picture).release)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    assert 1 <= len({id(b) for b in preparer._pool}) == len(preparer._pool) <= 32


def test_worker_normalisation_equals_the_edges_to_the_bit() -> None:
    scale, offset = (0.017, 0.0175, 0.0174), (-2.1, -2.0, -1.8)
    prepared = Preparer(224, 224, "BGR", scale, offset).prepare(yuv(9))
    np.testing.assert_array_equal(Normalizer(224, 224, "BGR", scale, offset).normalize(prepared.rgb), prepared.tensor)


@pytest.mark.parametrize("pixel_format", ["yuvj420p", "nv12", "yuyv422", "gray", "yuv420p10le", "bgr24"])
def test_any_pixel_format(pixel_format: str) -> None:
    frame = av.VideoFrame.from_ndarray(draw_picture(1234, width=640, height=272), format="rgb24")
    assert read_index(Preparer(300, 300).prepare(frame.reformat(format=pixel_format)).rgb) == 1234


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4)])
def test_refuses_other_arrays(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameShapeError, match="expected a picture"):
        Preparer(32, 32).prepare(np.zeros(shape, np.uint8))


def test_fast_enough_for_the_edge() -> None:
    preparer = Preparer(300, 300, "RGB", (2 / 255,) * 3, (-1.0,) * 3)
    frame = yuv(1)
    times = []
    for _ in range(60):
        started = time.perf_counter()
        preparer.prepare(frame).release()
        times.append(time.perf_counter() - started)
    assert min(times) < 0.002  # measured 0.45 ms; the bound only catches a lost fast path


def test_from_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "m.toml"
    manifest.write_text(
        """
name = "m"
input = "x"
width = 96
height = 64
color = "BGR"
scale = [1.0, 1.0, 1.0]
offset = [-104.0, -117.0, -123.0]
fit = "letterbox"
pad_value = 9
labels = ["a"]
licence = "MIT"
source = "test"
[postprocess]
kind = "classifier"
output = "y"
"""
    )
    prepared = Preparer.from_manifest(load_manifest(manifest)).prepare(np.full((64, 64, 3), 255, np.uint8))
    assert prepared.rgb.shape == (64, 96, 3)
    assert prepared.tensor[0, :, 0, 0].tolist() == [9 - 104, 9 - 117, 9 - 123]


def test_test_clip_is_deterministic_to_the_byte(tmp_path: Path) -> None:
    one = write_test_clip(tmp_path / "a.mp4", width=128, height=96, frames=12)
    two = write_test_clip(tmp_path / "b.mp4", width=128, height=96, frames=12)
    assert one.read_bytes() == two.read_bytes()
    other = write_test_clip(tmp_path / "c.mp4", width=128, height=96, frames=12, seed=4)
    assert one.read_bytes() != other.read_bytes()
