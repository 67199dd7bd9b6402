"""Owns where a source picture lies within the model's input, and the way back. Never interpolates."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import F32, Answer

Mask = npt.NDArray[np.unsignedinteger]


class Fit(StrEnum):
    """How a picture is brought to the model's size."""

    STRETCH = "stretch"
    """Each axis by its own factor; fills the input."""
    LETTERBOX = "letterbox"
    """Both axes by one factor, centred; the rest is padding."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A `source_w` × `source_h` picture within a `target_w` × `target_h` input, all in pixels.

    Raises FrameShapeError unless all four are positive.
    """

    source_w: int
    source_h: int
    target_w: int
    target_h: int
    fit: Fit

    def __post_init__(self) -> None:
        if min(self.source_w, self.source_h, self.target_w, self.target_h) < 1:
            raise FrameShapeError(
                f"can't place a {self.source_w}x{self.source_h} picture in {self.target_w}x{self.target_h} pixels"
            )

    @property
    def content_w(self) -> int:
        """Width in input pixels that the picture covers, at least 1."""
        return self._content()[0]

    @property
    def content_h(self) -> int:
        """Height in input pixels that the picture covers, at least 1."""
        return self._content()[1]

    @property
    def pad_left(self) -> int:
        """Padding left of the picture in input pixels; an odd pixel goes to the right."""
        return (self.target_w - self.content_w) // 2

    @property
    def pad_top(self) -> int:
        """Padding above the picture in input pixels; an odd pixel goes below."""
        return (self.target_h - self.content_h) // 2

    def to_source(self, answer: Answer) -> Answer:
        """Boxes and points from [0, 1] of the input to [0, 1] of the source picture, clipped to it.

        Tensors stay as they are: over the model's input (see `over_source`).
        """
        return Answer(
            self._unmap(answer.boxes.reshape(-1, 2, 2)).reshape(-1, 4),
            answer.scores,
            answer.classes,
            self._unmap(answer.points),
            answer.tensors,
        )

    def over_source(self, mask: Mask, width: int, height: int) -> Mask:
        """The part of `mask` (h, w), which covers the whole input, that lies over the picture: (height, width).

        Each pixel takes the value of the mask's cell that its centre lies in; padding is left out.
        Raises FrameShapeError unless `mask` has two dimensions and pixels.
        """
        if mask.ndim != 2 or not mask.size:
            raise FrameShapeError(f"expected a mask (h, w), got {mask.shape}")
        rows = self._cells(height, self.pad_top, self.content_h, self.target_h, mask.shape[0])
        columns = self._cells(width, self.pad_left, self.content_w, self.target_w, mask.shape[1])
        return mask[rows][:, columns]

    @staticmethod
    def _cells(count: int, pad: int, content: int, target: int, cells: int) -> npt.NDArray[np.intp]:
        """Which of `cells` cells along an axis of the input holds each of `count` pixels of the picture."""
        within = (pad + content * (np.arange(count) + 0.5) / count) / target
        return np.minimum((within * cells).astype(np.intp), cells - 1)

    def _content(self) -> tuple[int, int]:
        if self.fit is Fit.STRETCH:
            return self.target_w, self.target_h
        factor = min(self.target_w / self.source_w, self.target_h / self.source_h)
        width = min(max(round(self.source_w * factor), 1), self.target_w)
        height = min(max(round(self.source_h * factor), 1), self.target_h)
        return width, height

    def _unmap(self, points: F32) -> F32:
        if self.fit is Fit.STRETCH:
            return np.clip(points, 0, 1)
        target = np.array([self.target_w, self.target_h], np.float32)
        pad = np.array([self.pad_left, self.pad_top], np.float32) / target
        share = np.array([self.content_w, self.content_h], np.float32) / target
        clipped: F32 = np.clip((points - pad) / share, 0, 1).astype(np.float32, copy=False)
        return clipped
