"""Owns the annotated video: masks, boxes, labels and a banner drawn over the pictures, H.264 in an MP4 file."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont

from splitmesh.errors import FrameShapeError, OutputError
from splitmesh.frames.answer import Answer
from splitmesh.frames.geometry import Fit, Mask, Placement
from splitmesh.frames.normalize import U8
from splitmesh.frames.outcome import Outcome
from splitmesh.media.overlay import Color, legend, paint

log = logging.getLogger(__name__)

_CLOCK = 90_000
OUTCOME_COLORS: dict[Outcome, Color] = {
    Outcome.LOCAL: (50, 120, 235),
    Outcome.SPLIT: (60, 210, 100),
    Outcome.FRAME: (110, 215, 255),
    Outcome.RESUMED: (255, 190, 40),
    Outcome.TRACKED: (170, 180, 190),
    Outcome.SHED: (130, 60, 60),
    Outcome.EXPIRED: (235, 60, 60),
}
"""RGB of boxes and banner edge."""


def h264_encoder() -> str:
    """libx264 if this FFmpeg build has it, else mpeg4."""
    return "libx264" if "libx264" in av.codecs_available else "mpeg4"


class AnnotatedWriter:
    """Writes one annotated video. Not thread-safe. A file cut short by a crash still plays up to its last second.

    `width`, `height`: of the video, rounded down to even pixels. `fps`: nominal rate.
    Raises OutputError, naming `path`, if it can't be written.
    """

    def __init__(self, path: Path | str, width: int, height: int, fps: float) -> None:
        self.path = Path(path)
        self.width, self.height = max(width // 2 * 2, 2), max(height // 2 * 2, 2)
        self.frames = 0
        self._ticks_per_frame = max(round(_CLOCK / fps), 1)
        self._last_pts = -1
        self._reformatter = VideoReformatter()
        self._font_px = max(10, min(self.height // 22, 28))
        self._line_px = max(2, round(self.height / 240))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()  # the container opens it with the first picture; whether one may write shows now
            container = av.open(
                str(self.path), "w", options={"movflags": "+frag_keyframe+hybrid_fragmented", "flush_packets": "1"}
            )
            self._stream = self._add_stream(container, fps)
        except (av.error.FFmpegError, OSError, ValueError) as exc:
            raise self._error(exc) from exc
        self._container: OutputContainer | None = container

    def write(
        self,
        picture: av.VideoFrame | U8,
        answer: Answer,
        *,
        labels: Sequence[str] = (),
        outcome: Outcome = Outcome.LOCAL,
        banner: str = "",
        pts_ns: int | None = None,
        placement: Placement | None = None,
    ) -> None:
        """Append one picture, (H, W, 3) uint8 RGB or a decoded frame, of any size.

        `answer`: boxes in [0, 1] of the picture; a class map is painted over it, other tensors are not shown.
        `placement`: where the picture lay in the input that the class map covers; None: it filled it.
        `pts_ns`: presentation time, by default one frame after the last; times that don't increase are moved up.
        Raises OutputError (disk full, …), FrameShapeError.
        """
        if self._container is None:
            raise OutputError(f"{self.path} is already finished", path=str(self.path))
        rgb = self._to_rgb(picture)
        mask = self._over_picture(answer.mask, placement)
        canvas = Image.fromarray(rgb if mask is None else paint(rgb, mask, labels))
        draw = ImageDraw.Draw(canvas)
        self._draw(draw, answer, labels, OUTCOME_COLORS[outcome], banner)
        if mask is not None:
            self._draw_legend(draw, legend(mask, labels))
        frame = av.VideoFrame.from_ndarray(np.asarray(canvas), format="rgb24")
        pts = self._last_pts + self._ticks_per_frame if pts_ns is None else pts_ns * _CLOCK // 1_000_000_000
        if self._last_pts < 0 and pts_ns is None:
            pts = 0
        self._last_pts = max(pts, self._last_pts + 1)
        frame.pts, frame.time_base = self._last_pts, Fraction(1, _CLOCK)
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as exc:
            raise self._error(exc) from exc
        self.frames += 1

    def close(self) -> None:
        """Flush and finish the file; without a picture there is none to finish. Idempotent. Raises OutputError."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            if self.frames:
                container.mux(self._stream.encode(None))
            container.close()
            if not self.frames:
                self.path.unlink(missing_ok=True)
        except (av.error.FFmpegError, OSError) as exc:
            raise self._error(exc) from exc

    def __enter__(self) -> AnnotatedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add_stream(self, container: OutputContainer, fps: float) -> VideoStream:
        rate = Fraction(fps).limit_denominator(1001)
        stream = cast(VideoStream, container.add_stream(h264_encoder(), rate=rate))
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, _CLOCK)
        codec.gop_size = max(round(fps), 1)
        codec.max_b_frames = 0
        codec.thread_count = 1
        codec.options = (
            {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
            if codec.name == "libx264"
            else {"qscale": "4"}
        )
        return stream

    def _to_rgb(self, picture: av.VideoFrame | U8) -> U8:
        if isinstance(picture, np.ndarray):
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                raise FrameShapeError(f"expected a picture (H, W, 3) uint8 RGB, got {picture.shape} {picture.dtype}")
            if picture.shape[:2] == (self.height, self.width):
                return picture
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = self._reformatter.reformat(picture, self.width, self.height, "rgb24", threads=1)
        return cast(U8, frame.to_ndarray())

    def _draw(
        self,
        draw: ImageDraw.ImageDraw,
        answer: Answer,
        labels: Sequence[str],
        color: Color,
        banner: str,
    ) -> None:
        size = np.array([self.width - 1, self.height - 1] * 2, np.float32)
        for index, box in enumerate(np.clip(answer.boxes, 0, 1) * size):
            x0, y0, x1, y1 = (float(v) for v in box)
            draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=color, width=self._line_px)
            name = int(answer.classes[index])
            text = f"{labels[name] if name < len(labels) else name} {answer.scores[index]:.2f}"
            covered_px = self._font_px + 7 if banner else 0
            self._tag(draw, x0, max(y0 - self._font_px - 2, covered_px), text, color)
            for x, y in answer.points[index] if answer.points.shape[1] else ():
                px, py = float(x) * self.width, float(y) * self.height
                draw.ellipse((px - 2, py - 2, px + 2, py + 2), fill=color)
        if banner:
            draw.rectangle((0, 0, self.width, self._font_px + 6), fill=(16, 18, 24))
            draw.rectangle((0, 0, self._font_px // 2, self._font_px + 6), fill=color)
            draw.text((self._font_px, 2), banner, fill=(240, 240, 240), font=_font(self._font_px))

    def _over_picture(self, mask: Mask | None, placement: Placement | None) -> Mask | None:
        if mask is None or not mask.size:
            return None
        filled = Placement(self.width, self.height, self.width, self.height, Fit.STRETCH)
        return (placement or filled).over_source(mask, self.width, self.height)

    def _draw_legend(self, draw: ImageDraw.ImageDraw, entries: Sequence[tuple[str, Color]]) -> None:
        """Upwards from the lower left corner, the largest class at the top."""
        for row, (name, color) in enumerate(reversed(entries), start=1):
            self._tag(draw, 4, self.height - row * (self._font_px + 4), name, color)

    def _tag(self, draw: ImageDraw.ImageDraw, x: float, y: float, text: str, color: Color) -> None:
        font = _font(self._font_px)
        draw.rectangle((x, y, x + font.getlength(text) + 4, y + self._font_px + 2), fill=color)
        draw.text((x + 2, y), text, fill=(10, 10, 10), font=font)

    def _error(self, exc: Exception) -> OutputError:
        advice = "choose another folder, or check its permissions"
        if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
            advice = "the disk is full"
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        return OutputError(f"can't write the video {self.path}: {reason}", path=str(self.path), advice=advice)


@lru_cache(maxsize=8)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)
