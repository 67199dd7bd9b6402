"""Owns a small deterministic video for tests and demonstrations: shapes that move over a textured ground."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.stream import VideoStream

from splitmesh.errors import OutputError
from splitmesh.frames.normalize import U8
from splitmesh.media.writer import h264_encoder

_BITS = 12
"""Width of the index that each picture carries along its upper edge, high bit first."""


def draw_picture(index: int, *, width: int, height: int, seed: int = 0) -> U8:
    """Picture `index` of the clip, (height, width, 3) uint8 RGB; `read_index` finds `index` again after coding."""
    rgb = _texture(width, height, seed)
    speeds = np.random.default_rng(seed + 1).uniform(0.01, 0.03, (4, 2))
    for shape, (speed_x, speed_y) in enumerate(speeds):
        size = max(height // (4 + shape), 2)
        x = _bounce(shape * 0.21 + index * speed_x, width - size)
        y = height // 8 + _bounce(shape * 0.37 + index * speed_y, max(height - height // 8 - size, 1))
        color = ((230, 60, 40), (40, 200, 70), (50, 90, 230), (240, 220, 60))[shape]
        patch = rgb[y : y + size, x : x + size]
        if shape % 2:
            patch[:] = color
        else:
            rows, columns = np.ogrid[: patch.shape[0], : patch.shape[1]]
            patch[(rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 2) ** 2] = color
    cell = width // _BITS
    for bit in range(_BITS):
        level = 235 if index >> (_BITS - 1 - bit) & 1 else 20
        rgb[: height // 8, bit * cell : (bit + 1) * cell] = level
    return rgb


def read_index(rgb: U8) -> int:
    """The index (modulo 4096) that `draw_picture` put into a picture, at any size."""
    height, width = rgb.shape[:2]
    strip = rgb[height // 32 : max(height // 10, height // 32 + 1)].mean(axis=(0, 2))
    cell = width // _BITS
    value = 0
    for bit in range(_BITS):
        value = value << 1 | int(strip[bit * cell + cell // 4 : bit * cell + max(3 * cell // 4, 1)].mean() > 127)
    return value


def write_test_clip(
    path: Path | str,
    *,
    width: int = 320,
    height: int = 240,
    fps: int = 15,
    frames: int = 60,
    seed: int = 0,
    keyframe_every: int = 15,
) -> Path:
    """Write `frames` pictures of the clip; the container follows the suffix (.mp4, .mkv, .avi, .ts, .h264, …).

    The same arguments give the same bytes. Raises OutputError if `path` can't be written.
    """
    target = Path(path)
    try:
        with av.open(str(target), "w", options={"fflags": "+bitexact"}) as container:
            stream = cast(VideoStream, container.add_stream(h264_encoder(), rate=fps))
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.thread_count = 1
            stream.codec_context.gop_size = keyframe_every
            stream.codec_context.max_b_frames = 0
            stream.codec_context.options = {"preset": "veryfast", "crf": "20", "flags": "+bitexact"}
            for index in range(frames):
                picture = draw_picture(index, width=width, height=height, seed=seed)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.error.FFmpegError, OSError) as exc:
        raise OutputError(f"can't write {target}: {exc}", path=str(target)) from exc
    return target


def _texture(width: int, height: int, seed: int) -> U8:
    coarse = np.random.default_rng(seed).integers(60, 200, (height // 16 + 2, width // 16 + 2, 3)).astype(np.float32)
    rows, columns = np.arange(height) / 16, np.arange(width) / 16
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[:, None, None], (columns - c)[None, :, None]
    upper = coarse[r][:, c] * (1 - fc) + coarse[r][:, c + 1] * fc
    lower = coarse[r + 1][:, c] * (1 - fc) + coarse[r + 1][:, c + 1] * fc
    texture: U8 = (upper * (1 - fr) + lower * fr).astype(np.uint8)
    return texture


def _bounce(phase: float, extent: int) -> int:
    phase %= 2.0
    return round((phase if phase < 1 else 2 - phase) * extent)
