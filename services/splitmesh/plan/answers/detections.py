"""Owns reading boxes that the graph has decoded, suppressed there or not."""

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
    softmax,
    suppress,
    take_any,
    take_rows,
    to_unit,
)
from splitmesh.plan.manifest_kinds import BOX_COLUMNS, DetectionsPostprocess

_ORDERS = {
    "xyxy": ("x_min", "y_min", "x_max", "y_max"),
    "yxyx": ("y_min", "x_min", "y_max", "x_max"),
    "xywh": ("x_min", "y_min", "width", "height"),
    "cxcywh": ("x", "y", "width", "height"),
}


@dataclass(frozen=True, slots=True)
class Detections:
    """From rows, or from boxes and scores, to an answer."""

    post: DetectionsPostprocess
    labels: int
    width: int
    height: int

    def __call__(self, outputs: Outputs) -> Answer:
        post = self.post
        if post.output is not None:
            raw, order = self._table(outputs, post.output), tuple[str, ...](post.columns)
            rows, classes, scores = self._listed(raw, order)
        else:
            raw, order = self._boxes(outputs), _ORDERS[post.box_order]
            rows, classes, scores = self._beside(outputs, len(raw))
        if not len(rows):
            return Answer.empty()
        rows, classes, scores = best(post.max_candidates, scores, rows, classes)
        boxes = _corners(raw[rows], order)
        if post.coordinates == "pixels":
            boxes = to_unit(boxes, self.width, self.height)
        if not post.suppressed:
            return suppress(post, boxes, scores, classes)
        top = np.argsort(-scores, kind="stable")[: post.max_detections]
        return Answer(np.clip(boxes[top], 0, 1), scores[top], classes[top].astype(np.uint16))

    def _table(self, outputs: Outputs, name: str) -> F32:
        table = np.asarray(take_rows(outputs, name, 2), np.float32)
        if table.shape[1] < len(self.post.columns):
            raise ModelError(
                f"output {name!r} has {table.shape[1]} columns, the manifest names {len(self.post.columns)}"
            )
        return table

    def _listed(self, table: F32, names: tuple[str, ...]) -> tuple[Indices, Indices, F32]:
        scores = table[:, names.index("score")]
        rows = np.flatnonzero(scores >= self.post.score_threshold)
        if "class" not in names:
            return rows, np.zeros_like(rows), np.minimum(scores[rows], 1)
        return self._known(rows, table[rows, names.index("class")], scores[rows])

    def _boxes(self, outputs: Outputs) -> F32:
        value = np.asarray(take_any(outputs, self.post.boxes or ""), np.float32)
        if not value.ndim or value.shape[-1] != 4:
            raise ModelError(f"output {self.post.boxes!r} has shape {value.shape}, the manifest implies (…, N, 4)")
        return value.reshape(-1, 4)

    def _beside(self, outputs: Outputs, n: int) -> tuple[Indices, Indices, F32]:
        post = self.post
        name = post.scores or ""
        values = np.asarray(take_any(outputs, name), np.float32)
        if values.size % max(n, 1) or (not n and values.size):
            raise ModelError(f"output {name!r} has shape {values.shape}, the manifest implies {n} boxes")
        if post.classes is None:
            return self._per_label(values.reshape(n, -1), name) if n else _nothing()
        scores = values.reshape(-1)
        classes = take_any(outputs, post.classes).reshape(-1)
        if scores.shape != (n,) or classes.shape != (n,):
            raise ModelError(
                f"outputs {post.boxes!r}, {name!r} and {post.classes!r} hold {n} boxes, "
                f"{len(scores)} scores and {len(classes)} classes"
            )
        if post.count is not None:
            n = min(n, int(take_any(outputs, post.count).reshape(-1)[0]))
        rows = np.flatnonzero(scores[:n] >= post.score_threshold)
        return self._known(rows, classes[rows], scores[rows])

    def _per_label(self, values: F32, name: str) -> tuple[Indices, Indices, F32]:
        post = self.post
        wanted = self.labels + (post.background == "last")
        if values.shape[1] != wanted:
            raise ModelError(f"output {name!r} has {values.shape[1]} columns, the manifest implies {wanted}")
        threshold = post.score_threshold
        if post.activation == "softmax":
            values = softmax(values)
        raw = post.activation == "sigmoid"
        first = int(post.background == "first")
        level = math.log(threshold / (1 - threshold)) if raw else threshold
        rows, columns = np.nonzero(values[:, first : self.labels] >= level)
        found = values[rows, columns + first]
        return rows, columns + first, sigmoid(found) if raw else np.minimum(found, 1)

    def _known(self, rows: Indices, classes: F32, scores: F32) -> tuple[Indices, Indices, F32]:
        """Without padding, whose class is negative, and what the answer's uint16 can't hold."""
        kinds = np.rint(classes)
        fits = (kinds >= 0) & (kinds <= np.iinfo(np.uint16).max)
        return rows[fits], kinds[fits].astype(np.intp), np.minimum(scores[fits], 1)


def _nothing() -> tuple[Indices, Indices, F32]:
    none = np.zeros(0, np.intp)
    return none, none, np.zeros(0, np.float32)


def _corners(table: F32, names: tuple[str, ...]) -> F32:
    """(N, 4) x_min y_min x_max y_max from columns called `names`."""
    wanted = BOX_COLUMNS[frozenset(names) & frozenset().union(*BOX_COLUMNS)]
    box = table[:, [names.index(name) for name in wanted]]
    if wanted[2] == "x_max":
        return box
    if wanted[0] == "x":
        return centre_to_corners(box)
    corners: F32 = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
    return corners
