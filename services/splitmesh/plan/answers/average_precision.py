"""Owns average precision of detectors as COCO computes it, for boxes of any size. Knows no crowds and no masks.

Lin et al., "Microsoft COCO: Common Objects in Context", 2014, and its reference code, pycocotools.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from splitmesh.frames.answer import Answer

F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_RECALLS = np.linspace(0.0, 1.0, 101)
_LEAST_IOU = 1 - 1e-10
"""COCO's own: a threshold of 1 must not fail by rounding."""


def average_precision(
    answers: Sequence[Answer], references: Sequence[Answer], label: int, *, iou: float, max_boxes: int
) -> float | None:
    """AP of one class over all frames: precision at 101 recalls, interpolated; None if no reference has the class.

    Per frame the best `max_boxes` boxes count. Best first, over all frames, each is right if it takes a box of the
    reference that is still free and overlaps it by at least `iou`: the one it overlaps most.
    """
    scores: list[F64] = []
    right: list[Flags] = []
    wanted = 0
    for answer, reference in zip(answers, references, strict=True):
        mine = np.flatnonzero(answer.classes == label)
        mine = mine[np.argsort(-answer.scores[mine], kind="stable")][:max_boxes]
        theirs = reference.boxes[reference.classes == label].astype(np.float64)
        scores.append(answer.scores[mine].astype(np.float64))
        right.append(_right(answer.boxes[mine].astype(np.float64), theirs, iou))
        wanted += len(theirs)
    if not wanted:
        return None
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.cumsum(np.concatenate(right)[order])
    if not len(hits):
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(hits / wanted, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[place].mean())


def mean_average_precision(
    answers: Sequence[Answer],
    references: Sequence[Answer],
    *,
    iou: float = 0.5,
    min_score: float = 0.3,
    max_boxes: int = 100,
) -> float | None:
    """Mean of `average_precision` over the classes of the references' boxes of at least `min_score`, which are what
    is to be found; None if there are none."""
    truth = [_above(reference, min_score) for reference in references]
    labels = np.unique(np.concatenate([np.zeros(0, np.uint16), *(each.classes for each in truth)]))
    found = [average_precision(answers, truth, int(label), iou=iou, max_boxes=max_boxes) for label in labels]
    return float(np.mean([each for each in found if each is not None])) if found else None


def _above(answer: Answer, least: float) -> Answer:
    keep = answer.scores >= least
    return Answer(answer.boxes[keep], answer.scores[keep], answer.classes[keep])


def _right(mine: F64, theirs: F64, iou: float) -> Flags:
    """For each box of `mine`, best first, whether it takes one of `theirs`. Of equal overlaps the last is taken."""
    right = np.zeros(len(mine), np.bool_)
    if not len(mine) or not len(theirs):
        return right
    overlap = _overlap(mine, theirs)
    for place, row in enumerate(overlap):
        best = len(row) - 1 - int(np.argmax(row[::-1]))
        if row[best] >= min(iou, _LEAST_IOU):
            right[place] = True
            overlap[:, best] = -1.0
    return right


def _overlap(mine: F64, theirs: F64) -> F64:
    """IoU (N, M) in float64; boxes without area overlap nothing."""
    low = np.maximum(mine[:, None, :2], theirs[None, :, :2])
    high = np.minimum(mine[:, None, 2:], theirs[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    union = _areas(mine)[:, None] + _areas(theirs)[None, :] - shared
    overlap: F64 = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def _areas(boxes: F64) -> F64:
    areas: F64 = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
    return areas
