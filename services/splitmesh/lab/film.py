"""Owns the annotated video of a lab run: the source again, with each frame's answer drawn over it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from splitmesh.frames.geometry import Fit, Placement
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.references import Progress
from splitmesh.lab.summary import answered_in_time
from splitmesh.media.source import open_source
from splitmesh.media.writer import AnnotatedWriter
from splitmesh.plan.manifest import Manifest

_FRAMES_MAX = 3600
_DECODE_WAIT_S = 20.0


def film_run(path: Path, source: Path, records: Sequence[FrameRecord], manifest: Manifest, progress: Progress) -> int:
    """Write `path` (H.264 MP4) with the run's frames, at most 3600 of them; returns how many.

    The source is decoded again as the edge decoded it, looped, so frame `seq` of a file is the same picture.
    Raises SourceError, OutputError.
    """
    by_seq = {record.seq: record for record in records[:_FRAMES_MAX]}
    if not by_seq:
        return 0
    last = max(by_seq)
    video = open_source(source, pace=False, loop=True)
    info = video.wait_opened(_DECODE_WAIT_S)
    try:
        with AnnotatedWriter(path, info.width, info.height, info.fps) as writer:
            while (captured := video.next(_DECODE_WAIT_S)) is not None:
                record = by_seq.get(captured.seq)
                picture = captured.picture
                if record is not None and picture is not None:
                    writer.write(
                        picture,
                        record.answer,
                        labels=manifest.labels,
                        outcome=record.outcome,
                        banner=banner(record),
                        pts_ns=captured.pts_ns,
                        placement=Placement(
                            picture.width, picture.height, manifest.width, manifest.height, Fit(manifest.fit)
                        ),
                    )
                    progress("annotated video", writer.frames / len(by_seq))
                if captured.seq >= last:
                    break
            return writer.frames
    finally:
        video.close()


def banner(record: FrameRecord) -> str:
    """What is written over the frame: time, outcome, point, latency, the edge's view of the link."""
    parts = [f"{record.pts_ns / 1e9:5.1f} s", record.outcome.value]
    if record.point and record.point != record.outcome.value:
        parts.append(record.point)
    if record.latency_ms is None:
        parts.append(record.note or "no answer")
    else:
        parts.append(f"{record.latency_ms:.0f} ms" + ("" if answered_in_time(record) else " LATE"))
    if record.link.get("bandwidth_bps"):
        parts.append(f"link ~{record.link['bandwidth_bps'] / 1e6:.1f} Mbit/s")
    return "  ·  ".join(parts)
