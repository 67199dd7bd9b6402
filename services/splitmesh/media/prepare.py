"""Owns the step from a decoded picture to what the model and the tracker take, in pooled buffers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from splitmesh.errors import DecodeError, FrameShapeError
from splitmesh.frames.answer import F32
from splitmesh.frames.geometry import Fit, Placement
from splitmesh.frames.normalize import U8, InputSpec, Normalizer

LUMA_SHAPE = (36, 64)
"""(H, W) of the thumbnail that motion is measured on."""
_POOL = 32
"""Buffer sets kept for reuse; more are allocated when frames in flight hold more, and not kept."""


class FittedInputSpec(InputSpec, Protocol):
    """What a manifest says of the model's input, with its fit: `stretch` or `letterbox` on `pad_value`."""

    @property
    def fit(self) -> str: ...
    @property
    def pad_value(self) -> int: ...


@dataclass(slots=True)
class _Buffers:
    rgb: U8
    tensor: F32
    luma: U8
    scratch: U8
    padded_for: Placement | None = None
    """The placement whose padding `rgb` already holds."""


@dataclass(slots=True)
class Prepared:
    """One frame at the model's size. The arrays belong to a pool: don't touch them after `release`."""

    rgb: U8
    """(height, width, 3) uint8 RGB, padding included."""
    tensor: F32
    """(1, 3, height, width) float32, the model's channel order, scaled and offset."""
    placement: Placement
    """Where the source picture lies in `rgb`."""
    luma: U8
    """(36, 64) uint8 thumbnail of the source picture, without padding."""
    _pool: deque[_Buffers] = field(repr=False)
    _buffers: _Buffers | None = field(repr=False)

    def release(self) -> None:
        """Give the buffers back. Idempotent, and may be called from any thread."""
        buffers, self._buffers = self._buffers, None
        if buffers is not None and len(self._pool) < _POOL:
            self._pool.append(buffers)


class Preparer:
    """Resizes, converts and normalises pictures for one model. One thread at a time; `release` is free of that.

    `color`, `scale`, `offset`: as for `Normalizer`. `pad_value`: grey level of a letterbox's padding.
    """

    def __init__(
        self,
        width: int,
        height: int,
        color: str = "RGB",
        scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
        offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
        fit: str = Fit.STRETCH,
        pad_value: int = 114,
    ) -> None:
        self.width = width
        self.height = height
        self._fit = Fit(fit)
        self._pad_value = pad_value
        self._normalizer = Normalizer(width, height, color, scale, offset)
        self._to_model = VideoReformatter()
        self._to_luma = VideoReformatter()
        self._pool: deque[_Buffers] = deque()
        self._placement: Placement | None = None

    @staticmethod
    def from_manifest(manifest: FittedInputSpec) -> Preparer:
        return Preparer(
            manifest.width,
            manifest.height,
            manifest.color,
            manifest.scale,
            manifest.offset,
            manifest.fit,
            manifest.pad_value,
        )

    def prepare(self, picture: av.VideoFrame | U8) -> Prepared:
        """`picture` in any pixel format and size, or as (H, W, 3) uint8 RGB.

        Raises DecodeError if the picture can't be converted, FrameShapeError for an array of another form.
        """
        frame = _as_frame(picture)
        placement = self._place(frame)
        buffers = self._take()
        try:
            self._fill(frame, placement, buffers)
        except (av.error.FFmpegError, ValueError) as exc:
            self._pool.append(buffers)
            what = f"{frame.width}x{frame.height} {frame.format.name}"
            raise DecodeError(f"can't convert a {what} picture: {exc}") from exc
        self._normalizer.into(buffers.rgb, buffers.tensor, scratch=buffers.scratch)
        return Prepared(buffers.rgb, buffers.tensor, placement, buffers.luma, self._pool, buffers)

    def _place(self, frame: av.VideoFrame) -> Placement:
        last = self._placement
        if last is None or (last.source_w, last.source_h) != (frame.width, frame.height):
            last = Placement(frame.width, frame.height, self.width, self.height, self._fit)
            self._placement = last
        return last

    def _take(self) -> _Buffers:
        try:
            return self._pool.pop()
        except IndexError:
            return _Buffers(
                np.empty((self.height, self.width, 3), np.uint8),
                np.empty((1, 3, self.height, self.width), np.float32),
                np.empty(LUMA_SHAPE, np.uint8),
                np.empty((self.height, self.width), np.uint8),
            )

    def _fill(self, frame: av.VideoFrame, placement: Placement, buffers: _Buffers) -> None:
        width, height = placement.content_w, placement.content_h
        left, top = placement.pad_left, placement.pad_top
        if (width, height) != (self.width, self.height) and buffers.padded_for != placement:
            buffers.rgb[:] = self._pad_value
        buffers.padded_for = placement
        small = self._to_model.reformat(
            frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1
        )
        np.copyto(buffers.rgb[top : top + height, left : left + width], _pixels(small, 3))
        rows, columns = LUMA_SHAPE
        luma = self._to_luma.reformat(frame, columns, rows, "gray", interpolation=Interpolation.AREA, threads=1)
        np.copyto(buffers.luma, _pixels(luma, 1)[:, :, 0])


def _pixels(frame: av.VideoFrame, channels: int) -> U8:
    """A view (H, W, channels) of a packed picture's first plane, without its row padding."""
    plane = frame.planes[0]
    rows: U8 = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, plane.line_size)
    return rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)


def _as_frame(picture: av.VideoFrame | U8) -> av.VideoFrame:
    if isinstance(picture, av.VideoFrame):
        return picture
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise FrameShapeError(f"expected a picture (H, W, 3) uint8 RGB, got {picture.shape} {picture.dtype}")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
