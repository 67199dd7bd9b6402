"""Owns what is measured on a lab run's video itself: how it moves, and how soon tracked answers go stale on it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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

_LEAST_MOTION = 1e-4
"""Below half a grey level in fifty pixels; its logarithm would say more than the picture does."""
_FRAME_WAIT_S = 5.0
_ANSWERS = 600


@dataclass(frozen=True, slots=True)
class Video:
    """By index of the picture: thumbnail (36, 64) uint8, and what the unsplit model answers to it."""

    kind: str
    """The manifest's post-processing kind."""
    lumas: Mapping[int, npt.NDArray[np.uint8]]
    answers: Mapping[int, Answer]


@dataclass(frozen=True, slots=True)
class Moved:
    """As `Scenario` has it: median, standard deviation of the logarithm, and how long it stays what it is."""

    motion: float
    spread: float
    memory_s: float


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


def motion_of(records: Sequence[FrameRecord], video: Video, *, fps: float) -> Moved:
    """From each frame that reached the edge's loop to the next, the video's begin after its end among them."""
    seen = [video.lumas[index] for index in _seen(records) if index in video.lumas]
    return described([max(motion(*pair), _LEAST_MOTION) for pair in pairwise(seen)], fps=fps)


def described(moved: Sequence[float], *, fps: float) -> Moved:
    """`moved`: per frame, above 0. A memory of `m` seconds keeps exp(−1/(fps·m)) from one frame to the next."""
    middle = statistics.median(moved) if moved else _LEAST_MOTION
    apart = np.log(moved) - math.log(middle)
    power = float(np.mean(apart**2)) if len(moved) > 2 else 0.0
    if power < 1e-12:
        return Moved(middle, 0.0, 1.0)
    keep = float(np.mean(apart[1:] * apart[:-1])) / power
    return Moved(middle, math.sqrt(power), -1 / (fps * math.log(min(max(keep, 0.01), 0.999))))


def kappa_of(records: Sequence[FrameRecord], video: Video, *, fps: float) -> float:
    """κ of `exp(−κ·(motion + floor)·age)`, as a plan measures it, but on this video at the pace that it was seen at.

    The tracker is replayed over the unsplit model's answers: nothing of the run counts but which pictures it took.
    """
    first_pass: list[int] = []
    for index in _seen(records):
        if first_pass and index <= first_pass[-1]:
            break
        first_pass.append(index)
    taken = [index for index in first_pass if index in video.answers]
    samples = tracking_samples(
        [video.answers[index] for index in taken],
        [video.lumas[index] for index in taken],
        interval_ns=round(1e9 / fps),
        kind=video.kind,
    )
    return fit_track_kappa(samples)


def _seen(records: Sequence[FrameRecord]) -> list[int]:
    """Pictures that reached the edge's loop, in that order."""
    return [record.source_index for record in records if record.outcome is not Outcome.SHED]
