"""Owns the value that a model, a worker or the tracker gives for one frame. Knows nothing of any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError
from splitmesh.frames.tensors import Array, Tensors

F32 = npt.NDArray[np.float32]
U16 = npt.NDArray[np.uint16]


def _no_points() -> F32:
    return np.zeros((0, 0, 2), np.float32)


@dataclass(frozen=True, slots=True)
class Answer:
    """Scored, classified boxes, best first, and whatever arrays the model gives beside or instead of them.

    boxes: (N, 4) float32, x_min y_min x_max y_max, each in [0, 1] of the picture they refer to.
    scores: (N,) float32 in [0, 1].
    classes: (N,) uint16, index into the manifest's labels.
    points: (N, P, 2) float32 x y in [0, 1]; P is 0 for models without landmarks.
    tensors: by name, read-only, see `Tensors` for dtypes and bounds. A segmentation's answer is {"mask": (h, w)
        uint8 or uint16}, a class for each cell of a grid over the model's whole input; that of a model whose outputs
        are not interpreted holds them as they are. Never mapped to the source picture.
    A classifier's answer has boxes that cover the whole picture (0, 0, 1, 1).
    Raises FrameShapeError when the arrays disagree. `len` counts boxes: an answer may hold none and tensors all the
    same.
    """

    boxes: F32
    scores: F32
    classes: U16
    points: F32 = field(default_factory=_no_points)
    tensors: Mapping[str, Array] = field(default_factory=Tensors)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", Tensors.of(self.tensors))
        n = len(self.scores)
        points_fit = self.points.ndim == 3 and self.points.shape[2] == 2
        points_fit = points_fit and (self.points.shape[0] == n or self.points.shape[1] == 0)
        if self.boxes.shape != (n, 4) or self.classes.shape != (n,) or not points_fit:
            raise FrameShapeError(
                f"answer of {n} scores has boxes {self.boxes.shape}, classes {self.classes.shape}, "
                f"points {self.points.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def empty() -> Answer:
        return Answer(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint16))

    @staticmethod
    def of_tensors(tensors: Mapping[str, Array]) -> Answer:
        """An answer without boxes."""
        return replace(Answer.empty(), tensors=tensors)

    @property
    def mask(self) -> Array | None:
        """The tensor "mask" if it is a class map: (h, w) of unsigned integers."""
        mask = self.tensors.get("mask")
        return mask if mask is not None and mask.ndim == 2 and mask.dtype.kind == "u" else None

    def to_json(self) -> list[dict[str, Any]]:
        """The boxes: `[{"box": [x0, y0, x1, y1], "score": s, "class": c, "points": [[x, y], …]?}, …]`."""
        rows: list[dict[str, Any]] = []
        for i in range(len(self)):
            row: dict[str, Any] = {
                "box": [round(float(v), 5) for v in self.boxes[i]],
                "score": round(float(self.scores[i]), 4),
                "class": int(self.classes[i]),
            }
            if self.points.shape[1]:
                row["points"] = [[round(float(v), 5) for v in p] for p in self.points[i]]
            rows.append(row)
        return rows

    @staticmethod
    def from_json(rows: list[dict[str, Any]], tensors: Mapping[str, Array] | None = None) -> Answer:
        """What `to_json` gave, and the tensors that belong to it."""
        n = len(rows)
        if not n:
            return Answer.of_tensors(tensors or {})
        points = [r.get("points", []) for r in rows]
        return Answer(
            np.asarray([r["box"] for r in rows], np.float32).reshape(n, 4),
            np.asarray([r["score"] for r in rows], np.float32),
            np.asarray([r["class"] for r in rows], np.uint16),
            np.asarray(points, np.float32).reshape(n, -1, 2),
            tensors or {},
        )
