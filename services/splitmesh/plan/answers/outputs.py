"""Owns what decoding of all kinds shares: taking outputs, choosing the best, suppressing. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from splitmesh.errors import ModelError
from splitmesh.frames.answer import F32, Answer
from splitmesh.frames.boxes import nms_per_class

Outputs = Mapping[str, npt.NDArray[Any]]
PostprocessFn = Callable[[Outputs], Answer]
Indices = npt.NDArray[np.intp]


class Limits(Protocol):
    """What `suppress` needs of a detector's manifest."""

    @property
    def iou_threshold(self) -> float: ...
    @property
    def max_detections(self) -> int: ...


def take_any(outputs: Outputs, name: str) -> npt.NDArray[Any]:
    """Output `name` as it is. Raises ModelError that lists what there is."""
    value = outputs.get(name)
    if value is None:
        raise ModelError(f"output {name!r} is missing, the model gave {', '.join(outputs) or 'none'}")
    return value


def take(outputs: Outputs, name: str, shape: tuple[int | None, ...]) -> F32:
    """Output `name` as float32. Raises ModelError unless it has `shape`; None stands for any size."""
    value = take_any(outputs, name)
    fits = value.ndim == len(shape) and all(
        want in (None, have) for have, want in zip(value.shape, shape, strict=True)
    )
    if not fits:
        implied = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise ModelError(f"output {name!r} has shape {value.shape}, the manifest implies {implied}")
    return np.asarray(value, np.float32)


def take_rows(outputs: Outputs, name: str, axes: int) -> npt.NDArray[Any]:
    """Output `name` without leading axes of 1, down to `axes` axes. Raises ModelError for another form."""
    value = take_any(outputs, name)
    shape = value.shape
    while len(shape) > axes and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != axes:
        raise ModelError(f"output {name!r} has shape {value.shape}, the manifest implies {axes} axes behind any of 1")
    return value.reshape(shape)


def softmax(logits: F32) -> F32:
    """Over the last axis of (N, C)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: F32 = shifted / shifted.sum(axis=1, keepdims=True)
    return scores


def sigmoid(logits: F32) -> F32:
    # exp() of more than 88 overflows float32.
    bounded: F32 = np.clip(logits, -87, 87)
    scores: F32 = (1 / (1 + np.exp(-bounded))).astype(np.float32, copy=False)
    return scores


def best(limit: int, scores: F32, rows: Indices, classes: Indices) -> tuple[Indices, Indices, F32]:
    """The `limit` best of parallel arrays; all of them, in their order, where they are no more."""
    if len(scores) <= limit:
        return rows, classes, scores
    top = np.argsort(-scores, kind="stable")[:limit]
    return rows[top], classes[top], scores[top]


def centre_to_corners(boxes: F32) -> F32:
    """(N, 4) cx cy w h to x_min y_min x_max y_max."""
    half = boxes[:, 2:] / 2
    corners: F32 = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return corners


def to_unit(boxes: F32, width: int, height: int) -> F32:
    """(N, 4) corners in pixels to [0, 1] of a picture that large."""
    return np.asarray(boxes / np.array([width, height, width, height], np.float32), np.float32)


def suppress(limits: Limits, boxes: F32, scores: F32, classes: Indices, points: F32 | None = None) -> Answer:
    """The answer that non-maximum suppression leaves. boxes: (N, 4) corners in [0, 1], clipped here."""
    boxes = np.clip(boxes, 0, 1)
    keep = nms_per_class(boxes, scores, classes, limits.iou_threshold, limits.max_detections)
    marks = np.zeros((len(keep), 0, 2), np.float32) if points is None else np.clip(points[keep], 0, 1)
    return Answer(boxes[keep], scores[keep], classes[keep].astype(np.uint16), marks)
