"""Owns the pictures that a plan is measured on: clips, which of their frames serve which step, and made-up ones.

Reads no file and scales nothing; `provision.footage` does.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError
from splitmesh.frames.track import motion
from splitmesh.plan.thumbnail import luma_thumbnail

Rgb = npt.NDArray[np.uint8]
T = TypeVar("T")

FIT_SHARE = 3
"""One frame in so many is for fitting (of an int8 range, say); fidelity is measured on the others."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Pictures (H, W, 3) uint8 RGB at the model's input size."""

    pictures: tuple[Rgb, ...]
    interval_ms: float | None
    """Between neighbours; None: stills that do not follow each other."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of some footage."""

    picture: Rgb
    where: str
    """Its name, in messages too: "frame 3 of clip 1"; both count from 1."""
    motion: float | None
    """`frames.track.motion` since the frame before it, [0, 1]; None where none is known."""
    for_fit: bool
    """It may be fitted to, and is not evaluated on."""
    clip: int = 0
    """Number of its clip, from 1; 0 for a picture of none."""

    def follows(self, before: Sample | None) -> bool:
        """True if `before` is an earlier moment of the same video: what builds on earlier frames may build on it."""
        return before is not None and self.motion is not None and before.clip == self.clip


@dataclass(frozen=True)
class Footage:
    """All that calibration sees. Without clips: nothing."""

    clips: tuple[Clip, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Of all pixels, sizes and intervals; "" without pictures."""
        digest = hashlib.sha256()
        for clip in self.clips:
            digest.update(struct.pack("<Id", len(clip.pictures), clip.interval_ms or -1.0))
            for picture in clip.pictures:
                digest.update(struct.pack("<III", *picture.shape))
                digest.update(np.ascontiguousarray(picture).data)
        return digest.hexdigest() if self else ""

    def __bool__(self) -> bool:
        return any(clip.pictures for clip in self.clips)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Every picture, clip after clip."""
        return tuple(s for index, clip in enumerate(self.clips) for s in _samples(clip, index + 1))

    @property
    def fit(self) -> tuple[Sample, ...]:
        """What may be fitted to: the first third of a video, every third still. Shares no frame with `evaluate`."""
        return tuple(sample for sample in self.samples if sample.for_fit)

    @property
    def evaluate(self) -> tuple[Sample, ...]:
        """What fidelity is measured on: everything that is not in `fit`; never empty if there is a picture."""
        return tuple(sample for sample in self.samples if not sample.for_fit)

    @property
    def sequences(self) -> tuple[tuple[float, tuple[Sample, ...]], ...]:
        """The clips whose frames follow each other: milliseconds between two, and the frames."""
        return tuple(
            (clip.interval_ms, tuple(_samples(clip, number)))
            for number, clip in enumerate(self.clips, 1)
            if clip.interval_ms
        )

    def check(self, *, height: int, width: int) -> None:
        """Raises FrameShapeError, naming the frame, unless every picture is (height, width, 3) uint8."""
        for number, clip in enumerate(self.clips, 1):
            for index, picture in enumerate(clip.pictures):
                if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
                    raise FrameShapeError(
                        f"{_where(index, number)} is {picture.shape} {picture.dtype}, the model takes "
                        f"({height}, {width}, 3) uint8"
                    )


def _samples(clip: Clip, number: int) -> list[Sample]:
    samples: list[Sample] = []
    before: Rgb | None = None
    first_part = len(clip.pictures) // FIT_SHARE
    for index, picture in enumerate(clip.pictures):
        luma = luma_thumbnail(picture) if clip.interval_ms else None
        moved = motion(before, luma) if before is not None and luma is not None else None
        for_fit = index < first_part if clip.interval_ms else index % FIT_SHARE == FIT_SHARE - 1
        samples.append(Sample(picture, _where(index, number), moved, for_fit, number))
        before = luma
    return samples


def _where(index: int, clip: int) -> str:
    return f"frame {index + 1} of clip {clip}"


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items (≥ 1), spread evenly over all, in order; the first and the last among them."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[len(items) // 2]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def made_up(*, height: int, width: int, count: int = 4, noise: int = 32) -> tuple[Sample, ...]:
    """Smooth random stills, always the same: they excite every channel, and any two machines see the same ones.

    noise: what is added to each pixel stays below it.
    """
    rng = np.random.default_rng(7)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    samples = []
    for number in range(1, count + 1):
        coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        grain = rng.integers(0, noise, (height, width, 3))
        picture = np.clip(coarse[rows][:, columns].astype(np.int32) + grain, 0, 255).astype(np.uint8)
        samples.append(Sample(picture, f"made-up picture {number}", None, for_fit=False))
    return tuple(samples)
