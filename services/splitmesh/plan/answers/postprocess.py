"""Owns the step from a model's outputs to an answer, in numpy alone. Runs no model.

Everything here runs once per frame on a small box: scores are filtered before anything is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import ModelError
from splitmesh.frames.answer import F32, Answer
from splitmesh.frames.boxes import nms_per_class
from splitmesh.plan.manifest import (
    ClassifierPostprocess,
    Manifest,
    SsdPostprocess,
    YoloxPostprocess,
    YunetPostprocess,
)

Outputs = Mapping[str, npt.NDArray[Any]]
PostprocessFn = Callable[[Outputs], Answer]
Classes = npt.NDArray[np.intp]

# exp() of more than this is far beyond any picture; the bound keeps float32 finite.
_MAX_LOG_SIZE = 20.0


def build_postprocess(manifest: Manifest, anchors: npt.NDArray[Any] | None) -> PostprocessFn:
    """The function from named outputs of one picture to an Answer in [0, 1] of the model's input.

    anchors: (A, 4) y_min x_min y_max x_max for kind "ssd", else None.
    Raises ModelError if anchors are missing or malformed; the returned function raises it for outputs of
    another shape than the manifest implies.
    """
    post = manifest.postprocess
    match post:
        case SsdPostprocess():
            return _Ssd.build(post, len(manifest.labels), anchors)
        case YoloxPostprocess():
            return _Yolox(post, len(manifest.labels), manifest.width, manifest.height, _grid(post.strides, manifest))
        case YunetPostprocess():
            return _Yunet(post, manifest.width, manifest.height, _grid(post.strides, manifest))
        case ClassifierPostprocess():
            return _Classifier(post, len(manifest.labels))


@dataclass(frozen=True, slots=True)
class _Ssd:
    post: SsdPostprocess
    labels: int
    centres: F32
    """(A, 4) cy cx h w of the anchors."""

    @staticmethod
    def build(post: SsdPostprocess, labels: int, anchors: npt.NDArray[Any] | None) -> _Ssd:
        if anchors is None:
            raise ModelError("postprocess kind 'ssd' needs anchors, and none were given")
        if anchors.ndim != 2 or anchors.shape[1] != 4 or not len(anchors):
            raise ModelError(f"anchors must have shape (A, 4), got {anchors.shape}")
        corners = anchors.astype(np.float32)
        size = corners[:, 2:] - corners[:, :2]
        return _Ssd(post, labels, np.concatenate([corners[:, :2] + size / 2, size], axis=1))

    def __call__(self, outputs: Outputs) -> Answer:
        n = len(self.centres)
        logits = _take(outputs, self.post.scores, (1, n, self.labels))[0]
        codes = _take(outputs, self.post.boxes, (1, n, 4))[0]
        rows, classes, scores = self._candidates(logits)
        if not len(rows):
            return Answer.empty()
        rows, classes, scores = _best(self.post.max_candidates, scores, rows, classes)
        return _suppressed(self.post, self._decode(codes[rows], self.centres[rows]), scores, classes)

    def _candidates(self, logits: F32) -> tuple[Classes, Classes, F32]:
        first = int(self.post.background)
        level = math.log(self.post.score_threshold / (1 - self.post.score_threshold))
        if self.post.activation == "sigmoid":
            hits = np.flatnonzero(logits[:, first:] >= level)
            rows, columns = np.divmod(hits, self.labels - first)
            classes = columns + first
            return rows, classes, 1 / (1 + np.exp(-logits[rows, classes]))
        # p_c >= t implies l_c - l_0 >= log(t / (1 - t)) with a background class, so most rows need no softmax.
        busy = np.flatnonzero(logits[:, 1:].max(axis=1) - logits[:, 0] >= level) if first else np.arange(len(logits))
        scores = _softmax(logits[busy])
        local, columns = np.nonzero(scores[:, first:] >= self.post.score_threshold)
        return busy[local], columns + first, scores[local, columns + first]

    def _decode(self, codes: F32, anchors: F32) -> F32:
        """Box coder of Faster R-CNN (Ren et al. 2015, eq. 2) with TensorFlow's scales: to x_min y_min x_max y_max."""
        t = codes / np.asarray(self.post.coder_scales, np.float32)
        centre = t[:, :2] * anchors[:, 2:] + anchors[:, :2]
        half = np.exp(np.minimum(t[:, 2:], _MAX_LOG_SIZE)) * anchors[:, 2:] / 2
        corners: F32 = np.concatenate([centre - half, centre + half], axis=1)[:, [1, 0, 3, 2]]
        return corners


@dataclass(frozen=True, slots=True)
class _Yolox:
    post: YoloxPostprocess
    labels: int
    width: int
    height: int
    grid: F32
    """(N, 3): column, row, stride of each cell."""

    def __call__(self, outputs: Outputs) -> Answer:
        rows_out = _take(outputs, self.post.output, (1, len(self.grid), 5 + self.labels))[0]
        # A class score is at most 1, so objectness alone already bounds the product.
        busy = np.flatnonzero(rows_out[:, 4] >= self.post.score_threshold)
        scores_all = rows_out[busy, 5:] * rows_out[busy, 4:5]
        local, classes = np.nonzero(scores_all >= self.post.score_threshold)
        if not len(local):
            return Answer.empty()
        cells, classes, scores = _best(self.post.max_candidates, scores_all[local, classes], busy[local], classes)
        boxes = _centre_to_corners(self._decode(rows_out[cells, :4], self.grid[cells]), self.width, self.height)
        return _suppressed(self.post, boxes, scores, classes)

    def _decode(self, raw: F32, cells: F32) -> F32:
        if self.post.decoded:
            return raw
        return _grid_decode(raw, cells)


@dataclass(frozen=True, slots=True)
class _Yunet:
    post: YunetPostprocess
    width: int
    height: int
    grid: F32

    def __call__(self, outputs: Outputs) -> Answer:
        post, n = self.post, len(self.grid)
        cls = self._all(outputs, post.cls_prefix, 1)[:, 0]
        obj = self._all(outputs, post.obj_prefix, 1)[:, 0]
        if len(cls) != n:
            raise ModelError(f"outputs {post.cls_prefix}* hold {len(cls)} cells, the manifest's size implies {n}")
        strength = np.clip(cls, 0, 1) * np.clip(obj, 0, 1)
        busy = np.flatnonzero(strength >= post.score_threshold**2)
        if not len(busy):
            return Answer.empty()
        cells, classes, scores = _best(post.max_candidates, np.sqrt(strength[busy]), busy, np.zeros_like(busy))
        grid = self.grid[cells]
        boxes = _grid_decode(self._all(outputs, post.bbox_prefix, 4)[cells], grid)
        marks = self._all(outputs, post.kps_prefix, 10)[cells].reshape(-1, 5, 2)
        size = np.array([self.width, self.height], np.float32)
        points = (marks + grid[:, None, :2]) * grid[:, None, 2:] / size
        return _suppressed(post, _centre_to_corners(boxes, self.width, self.height), scores, classes, points)

    def _all(self, outputs: Outputs, prefix: str, depth: int) -> F32:
        parts = []
        for stride in self.post.strides:
            cells = (self.height // stride) * (self.width // stride)
            parts.append(_take(outputs, f"{prefix}{stride}", (1, cells, depth))[0])
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class _Classifier:
    post: ClassifierPostprocess
    labels: int

    def __call__(self, outputs: Outputs) -> Answer:
        values = _take(outputs, self.post.output, (1, self.labels))
        scores = (_softmax(values) if self.post.activation == "softmax" else np.clip(values, 0, 1))[0]
        best = np.argsort(-scores, kind="stable")[: self.post.top_k]
        whole = np.tile(np.array([0, 0, 1, 1], np.float32), (len(best), 1))
        return Answer(whole, scores[best], best.astype(np.uint16))


def _take(outputs: Outputs, name: str, shape: tuple[int, ...]) -> F32:
    value = outputs.get(name)
    if value is None:
        raise ModelError(f"output {name!r} is missing, the model gave {', '.join(outputs) or 'none'}")
    if value.shape != shape:
        raise ModelError(f"output {name!r} has shape {value.shape}, the manifest implies {shape}")
    return np.asarray(value, np.float32)


def _grid(strides: tuple[int, ...], manifest: Manifest) -> F32:
    levels = []
    for stride in strides:
        rows, columns = np.mgrid[: manifest.height // stride, : manifest.width // stride]
        levels.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(levels).astype(np.float32)


def _grid_decode(raw: F32, cells: F32) -> F32:
    """(K, 4) dx dy log(w) log(h) in strides to cx cy w h in input pixels. cells: (K, 3) column row stride."""
    stride = cells[:, 2:]
    centre = (raw[:, :2] + cells[:, :2]) * stride
    size = np.exp(np.minimum(raw[:, 2:], _MAX_LOG_SIZE)) * stride
    decoded: F32 = np.concatenate([centre, size], axis=1)
    return decoded


def _centre_to_corners(boxes: F32, width: int, height: int) -> F32:
    half = boxes[:, 2:] / 2
    corners = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return np.asarray(corners / np.array([width, height, width, height], np.float32), np.float32)


def _softmax(logits: F32) -> F32:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores: F32 = shifted / shifted.sum(axis=1, keepdims=True)
    return scores


def _best(limit: int, scores: F32, rows: Classes, classes: Classes) -> tuple[Classes, Classes, F32]:
    if len(scores) <= limit:
        return rows, classes, scores
    top = np.argsort(-scores, kind="stable")[:limit]
    return rows[top], classes[top], scores[top]


def _suppressed(
    post: SsdPostprocess | YoloxPostprocess | YunetPostprocess,
    boxes: F32,
    scores: F32,
    classes: Classes,
    points: F32 | None = None,
) -> Answer:
    boxes = np.clip(boxes, 0, 1)
    keep = nms_per_class(boxes, scores, classes, post.iou_threshold, post.max_detections)
    marks = np.zeros((len(keep), 0, 2), np.float32) if points is None else np.clip(points[keep], 0, 1)
    return Answer(boxes[keep], scores[keep], classes[keep].astype(np.uint16), marks)
