"""Owns what is measured on a lab run's video itself: how it moves, and how soon tracked answers go stale on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.frames.track import motion
from splitmesh.lab.references import reference_answers
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.models.fetch import default_cache
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.calibrate import fit_track_kappa, tracking_samples

_FRAME_WAIT_S = 5.0
_ANSWERS = 600


@dataclass(frozen=True, slots=True)
class Video:
    """By index of the picture: thumbnail (36, 64) uint8, and what the unsplit model answers to it."""

    kind: str
    """The manifest's post-processing kind."""
    lumas: Mapping[int, npt.NDArray[np.uint8]]
    answers: Mapping[int, Answer]


def video_of(source: Path, bundle: Bundle) -> Video:
    """All pictures of `source` as the edge of that plan sees them, and answers to the first 600 of them.

    Raises SourceError, DecodeError, InferenceError.
    """
    preparer = Preparer.from_manifest(bundle.manifest)
    video = open_source(source, pace=False, hwaccel="none")
    lumas = {}
    try:
        while (captured := video.next(_FRAME_WAIT_S)) is not None:
            if captured.picture is not None:
                prepared = preparer.prepare(captured.picture)
                lumas[captured.source_index] = prepared.luma.copy()
                prepared.release()
    finally:
        video.close()
    cache = default_cache() / "references"
    wanted = sorted(lumas)[:_ANSWERS]
    answers = reference_answers(bundle, source, wanted, cache=cache, threads=1, progress=lambda _what, _share: None)
    return Video(bundle.manifest.postprocess.kind, lumas, answers)


def motions_of(records: Sequence[FrameRecord], video: Video) -> tuple[float, ...]:
    """Motion of each picture of the run's first pass over the video against the one captured before it, the first
    against the last. Empty for a video that none of them is of."""
    seen = [
        video.lumas[index] for index in _first_pass(record.source_index for record in records) if index in video.lumas
    ]
    return tuple(motion(before, now) for before, now in zip([seen[-1], *seen], seen, strict=False)) if seen else ()


def kappa_of(records: Sequence[FrameRecord], video: Video, *, fps: float) -> float:
    """κ of `exp(−κ·(motion + floor)·age)`, as a plan measures it, but on this video at the pace that it was seen at.

    The tracker is replayed over the unsplit model's answers: nothing of the run counts but which pictures it took.
    """
    reached = (record.source_index for record in records if record.outcome is not Outcome.SHED)
    taken = [index for index in _first_pass(reached) if index in video.answers]
    samples = tracking_samples(
        [video.answers[index] for index in taken],
        [video.lumas[index] for index in taken],
        interval_ns=round(1e9 / fps),
        kind=video.kind,
    )
    return fit_track_kappa(samples)


def _first_pass(indices: Iterable[int]) -> list[int]:
    """Until the video begins anew."""
    found: list[int] = []
    for index in indices:
        if found and index <= found[-1]:
            break
        found.append(index)
    return found
