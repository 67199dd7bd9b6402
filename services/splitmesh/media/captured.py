"""Owns the value that stands for one captured frame, and what a source tells of itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import av


@dataclass(frozen=True, slots=True)
class Captured:
    """One picture as it left the decoder."""

    seq: int
    """Counts captured frames of this run from 0, dropped ones included."""
    source_index: int
    """Index of the picture within the source before looping (live sources: since the last connect)."""
    pts_ns: int
    """Continuous presentation time since the run's first frame."""
    captured_ns: int
    """`time.monotonic_ns()` at which a camera would have handed the picture over."""
    picture: av.VideoFrame | None
    """In the decoder's own pixel format; None once the frame was dropped."""
    gap: bool
    """Frames are missing before this one."""
    reset: bool
    """The stream's clock started anew here: loop, reconnect, wrap."""
    width: int
    """Source pixels."""
    height: int
    """Source pixels."""
    decode_ns: int = 0
    """Time that decoding its packet took."""

    def without_picture(self) -> Captured:
        """The same frame, holding no decoder memory."""
        return replace(self, picture=None)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What the source turned out to be when it was opened."""

    url: str
    """Without credentials."""
    width: int
    height: int
    fps: float
    """Nominal frames per second; 25 if the stream does not tell."""
    codec: str
    decoder: str
    """`software`, `cuda`, `v4l2m2m` or `vaapi`."""
    live: bool
    duration_s: float | None
    """None for live sources and files that do not tell."""


@dataclass(slots=True)
class SourceStats:
    """Counts since the source was started. `captured = delivered + dropped + waiting`."""

    captured: int = 0
    delivered: int = 0
    dropped: int = 0
    waiting: int = 0
    decode_errors: int = 0
    """Packets that gave no picture because they were damaged."""
    damaged: int = 0
    """Pictures that the decoder concealed errors in; they are delivered."""
    reconnects: int = 0
    """Times that a lost live source was opened again with success."""
    connect_failures: int = 0
    gaps: int = 0
    resets: int = 0
    loops: int = 0
    resyncs: int = 0
    """Times that a paced file fell so far behind real time that its clock was set anew."""
