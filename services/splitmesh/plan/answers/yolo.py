"""Owns decoding of the grid detectors: YOLOX, YuNet, and outputs in the manner of YOLOv5 … v11."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from splitmesh.errors import ModelError
from splitmesh.frames.answer import F32, Answer
from splitmesh.plan.answers.outputs import (
    Indices,
    Outputs,
    best,
    centre_to_corners,
    sigmoid,
    suppress,
    take,
    take_rows,
    to_unit,
)
from splitmesh.plan.manifest_kinds import YoloPostprocess, YoloxPostprocess, YunetPostprocess

# exp() of more than this is far beyond any picture; the bound keeps float32 finite.
_MAX_LOG_SIZE = 20.0


def grid_cells(strides: tuple[int, ...], width: int, height: int) -> F32:
    """(N, 3): column, row, stride of each cell, row by row, one grid after the other."""
    levels = []
    for stride in strides:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        levels.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(levels).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Yolox:
    """From an output (1, N, 5 + C) to an answer."""

    post: YoloxPostprocess
    labels: int
    width: int
    height: int
    grid: F32
    """(N, 3): column, row, stride of each cell."""

    def __call__(self, outputs: Outputs) -> Answer:
        rows_out = take(outputs, self.post.output, (1, len(self.grid), 5 + self.labels))[0]
        # A class score is at most 1, so objectness alone already bounds the product.
        busy = np.flatnonzero(rows_out[:, 4] >= self.post.score_threshold)
        scores_all = rows_out[busy, 5:] * rows_out[busy, 4:5]
        local, classes = np.nonzero(scores_all >= self.post.score_threshold)
        if not len(local):
            return Answer.empty()
        cells, classes, scores = best(self.post.max_candidates, scores_all[local, classes], busy[local], classes)
        raw = rows_out[cells, :4]
        boxes = raw if self.post.decoded else _grid_decode(raw, self.grid[cells])
        return suppress(self.post, to_unit(centre_to_corners(boxes), self.width, self.height), scores, classes)


@dataclass(frozen=True, slots=True)
class Yolo:
    """From an output (1, 4 + C, N), (1, N, 4 + C) or (1, N, 5 + C) to an answer."""

    post: YoloPostprocess
    labels: int
    width: int
    height: int

    def __call__(self, outputs: Outputs) -> Answer:
        table = np.asarray(take_rows(outputs, self.post.output, 2), np.float32)
        columns = table if self.post.box_per == "column" else table.T  # a view: (4 + C, N)
        first = 4 + self.post.objectness
        if len(columns) < first + self.labels:
            raise ModelError(
                f"output {self.post.output!r} has {len(columns)} values per box, "
                f"the manifest implies at least {first + self.labels}"
            )
        boxes, classes, scores = self._candidates(columns, first)
        if not len(boxes):
            return Answer.empty()
        boxes, classes, scores = best(self.post.max_candidates, scores, boxes, classes)
        corners = centre_to_corners(np.ascontiguousarray(columns[:4, boxes].T))
        if self.post.coordinates == "pixels":
            corners = to_unit(corners, self.width, self.height)
        return suppress(self.post, corners, scores, classes)

    def _candidates(self, columns: F32, first: int) -> tuple[Indices, Indices, F32]:
        """(box, class, score) of what scores enough. Raw scores are compared first, then activated."""
        threshold = self.post.score_threshold
        raw = self.post.activation == "sigmoid"
        level = math.log(threshold / (1 - threshold)) if raw else threshold
        values = columns[first : first + self.labels]
        if not self.post.objectness:
            classes, boxes = np.nonzero(values >= level)
            found = values[classes, boxes]
            return boxes, classes, sigmoid(found) if raw else np.minimum(found, 1)
        # A class score is at most 1, so objectness alone already bounds the product.
        busy = np.flatnonzero(columns[4] >= level)
        some, objectness = values[:, busy], columns[4, busy]
        products = sigmoid(some) * sigmoid(objectness) if raw else some * objectness
        classes, local = np.nonzero(products >= threshold)
        return busy[local], classes, np.minimum(products[classes, local], 1)


@dataclass(frozen=True, slots=True)
class Yunet:
    """From cls, obj, bbox and kps of each stride to faces with five landmarks."""

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
        cells, classes, scores = best(post.max_candidates, np.sqrt(strength[busy]), busy, np.zeros_like(busy))
        grid = self.grid[cells]
        boxes = _grid_decode(self._all(outputs, post.bbox_prefix, 4)[cells], grid)
        marks = self._all(outputs, post.kps_prefix, 10)[cells].reshape(-1, 5, 2)
        size = np.array([self.width, self.height], np.float32)
        points = (marks + grid[:, None, :2]) * grid[:, None, 2:] / size
        corners = to_unit(centre_to_corners(boxes), self.width, self.height)
        return suppress(post, corners, scores, classes, points)

    def _all(self, outputs: Outputs, prefix: str, depth: int) -> F32:
        parts = []
        for stride in self.post.strides:
            cells = (self.height // stride) * (self.width // stride)
            parts.append(take(outputs, f"{prefix}{stride}", (1, cells, depth))[0])
        return np.concatenate(parts)


def _grid_decode(raw: F32, cells: F32) -> F32:
    """(K, 4) dx dy log(w) log(h) in strides to cx cy w h in input pixels. cells: (K, 3) column row stride."""
    stride = cells[:, 2:]
    centre = (raw[:, :2] + cells[:, :2]) * stride
    size = np.exp(np.minimum(raw[:, 2:], _MAX_LOG_SIZE)) * stride
    decoded: F32 = np.concatenate([centre, size], axis=1)
    return decoded
