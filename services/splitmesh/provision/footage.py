"""Owns turning videos and folders of pictures into the footage that a plan is measured on, at the model's size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from splitmesh.errors import SourceError
from splitmesh.media.capture import VideoSource
from splitmesh.media.captured import SourceInfo
from splitmesh.media.prepare import Prepared, Preparer
from splitmesh.media.source import open_source
from splitmesh.media.stills import picture_files, read_pictures
from splitmesh.plan.footage import Clip, Footage, Rgb, evenly
from splitmesh.plan.manifest import Manifest

CONSECUTIVE = 64
"""Frames of a video's beginning, one after the other: tracking is measured on them."""
SPREAD = 24
"""Further frames of a file, at most a second apart, so that calibration sees more than its first moments."""
STILLS = 64
"""Pictures taken of one folder, spread evenly over its names."""
_OPEN_S = 20.0
_FRAME_S = 20.0

Progress = Callable[[str, float], None]


def read_footage(
    videos: Sequence[str],
    folders: Sequence[Path],
    manifest: Manifest,
    progress: Progress,
    *,
    patience: float = 1.0,
) -> Footage:
    """The beginnings of `videos` (files or URLs) and pictures of `folders`, each video and folder a clip.

    progress: told "frames" and the share of sources read. patience: so many times as many frames of each.
    Raises SourceError if a source can't be opened or brings nothing, DecodeError for a damaged picture.
    """
    preparer = Preparer.from_manifest(manifest)
    clips: list[Clip] = []
    total = len(videos) + len(folders)
    progress("frames", 0.0)
    for done, video in enumerate(videos, 1):
        clips.extend(_video(video, preparer, round(patience * CONSECUTIVE), round(patience * SPREAD)))
        progress("frames", done / total)
    for done, folder in enumerate(folders, len(videos) + 1):
        clips.append(_stills(evenly(picture_files(folder), round(patience * STILLS)), preparer))
        progress("frames", done / total)
    return Footage(tuple(clips))


def read_beginning(
    video: str, folder: Path | None, manifest: Manifest, *, frames: int, progress: Progress
) -> Footage:
    """The first `frames` frames of `video` as one clip, and all pictures of `folder` as another.

    Raises as `read_footage` does.
    """
    preparer = Preparer.from_manifest(manifest)
    progress("frames", 0.0)
    clips = _video(video, preparer, frames, 0)
    if folder is not None:
        clips.append(_stills(picture_files(folder), preparer))
    progress("frames", 1.0)
    return Footage(tuple(clips))


def read_pictures_of(folder: Path, manifest: Manifest) -> Footage:
    """All pictures of `folder`. Raises SourceError if there are none, DecodeError for a damaged one."""
    return Footage((_stills(picture_files(folder), Preparer.from_manifest(manifest)),))


def _stills(paths: list[Path], preparer: Preparer) -> Clip:
    return Clip(tuple(_copied(preparer.prepare(picture)) for picture in read_pictures(paths)), None)


def _video(url: str, preparer: Preparer, consecutive: int, spread: int) -> list[Clip]:
    """The beginning, frame by frame; of a file also frames spread over what follows, as stills."""
    with open_source(url, pace=False, give_up_after_s=_OPEN_S) as video:
        try:
            info = video.wait_opened(_OPEN_S)
            row = _take(video, preparer, consecutive, every=1)
            further = []
            if spread and not info.live:
                further = _take(video, preparer, spread, every=_stride(info, consecutive, spread))
        except TimeoutError as exc:
            raise SourceError("the source brings no frames", url=url, retryable=True) from exc
    if not row:
        raise SourceError("the source has no picture", url=info.url)
    return [Clip(tuple(row), 1000.0 / info.fps), *([Clip(tuple(further), None)] if further else [])]


def _stride(info: SourceInfo, consecutive: int, spread: int) -> int:
    second = max(1, round(info.fps))
    if info.duration_s is None:
        return second
    return min(second, max(1, round((info.duration_s * info.fps - consecutive) / spread)))


def _take(video: VideoSource, preparer: Preparer, count: int, *, every: int) -> list[Rgb]:
    taken: list[Rgb] = []
    seen = 0
    while len(taken) < count and (captured := video.next(_FRAME_S)) is not None:
        if captured.picture is None:
            continue
        seen += 1
        if seen % every == 0:
            taken.append(_copied(preparer.prepare(captured.picture)))
    return taken


def _copied(prepared: Prepared) -> Rgb:
    rgb = prepared.rgb.copy()
    prepared.release()
    return rgb
