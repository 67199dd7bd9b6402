"""Owns how a video source is asked for: an address and its options become a running `VideoSource`."""

from __future__ import annotations

from pathlib import Path

from splitmesh.media.address import parse_address
from splitmesh.media.capture import VideoSource
from splitmesh.media.probe import Acceleration
from splitmesh.media.stream import OpenOptions

__all__ = ["VideoSource", "open_source"]


def open_source(
    url: str | Path,
    *,
    pace: bool = True,
    loop: bool = False,
    duration_s: float | None = None,
    max_fps: float | None = None,
    ring_capacity: int = 4,
    hwaccel: str = "auto",
    rtsp_transport: str = "tcp",
    stall_timeout_s: float = 5.0,
    open_timeout_s: float = 10.0,
    give_up_after_s: float | None = None,
    decode_threads: int = 1,
    camera_size: tuple[int, int] | None = None,
    camera_fps: float | None = None,
) -> VideoSource:
    """Start capturing `url`: a file, `rtsp://`/`http(s)://`/HLS URL, `/dev/videoN` or `v4l2:/dev/videoN`.

    `pace`: play files in real time (live sources always are). `loop`: begin again at a file's end.
    `duration_s`: stop after that much presentation time (live: time on this machine's clock).
    `max_fps`: take at most so many pictures per second, as if the camera gave no more.
    `ring_capacity`: frames that may wait for the consumer.
    `hwaccel`: auto, none, cuda, v4l2m2m or vaapi; falls back to software. `stall_timeout_s`: a live source that
    brings nothing for so long is opened again. `give_up_after_s`: then a live source fails for good (None: never).
    Raises SourceError at once for a missing file or unknown scheme; `get` raises it for what shows later.
    """
    options = OpenOptions(
        hwaccel=Acceleration(hwaccel),
        rtsp_transport=rtsp_transport,
        stall_timeout_s=stall_timeout_s,
        open_timeout_s=open_timeout_s,
        decode_threads=decode_threads,
        camera_size=camera_size,
        camera_fps=camera_fps,
    )
    return VideoSource(
        parse_address(url),
        pace=pace,
        loop=loop,
        duration_s=duration_s,
        max_fps=max_fps,
        ring_capacity=ring_capacity,
        give_up_after_s=give_up_after_s,
        options=options,
    )
