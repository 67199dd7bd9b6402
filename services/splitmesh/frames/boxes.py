"""Owns box arithmetic: overlap and non-maximum suppression. Knows nothing of models or pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splitmesh.frames.answer import F32

Indices = npt.NDArray[np.intp]

# Up to this many boxes one overlap matrix is quicker than a row per kept box.
_MATRIX_LIMIT = 512


def iou_matrix(a: F32, b: F32) -> F32:
    """Intersection over union of every box in `a` with every box in `b`.

    a: (N, 4), b: (M, 4), x_min y_min x_max y_max in any one unit. Returns (N, M) float32 in [0, 1].
    Boxes without area (also inverted ones) overlap nothing, not even themselves.
    """
    left = np.maximum(a[:, None, 0], b[None, :, 0])
    top = np.maximum(a[:, None, 1], b[None, :, 1])
    right = np.minimum(a[:, None, 2], b[None, :, 2])
    bottom = np.minimum(a[:, None, 3], b[None, :, 3])
    shared = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    union = _areas(a)[:, None] + _areas(b)[None, :] - shared
    overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    bounded: F32 = np.minimum(overlap, 1).astype(np.float32, copy=False)
    return bounded


def nms_per_class(
    boxes: F32, scores: F32, classes: npt.NDArray[np.integer], iou_threshold: float, max_out: int
) -> Indices:
    """Greedy non-maximum suppression among boxes of the same class.

    boxes: (N, 4), scores: (N,), classes: (N,) integers. A box falls if a kept, better one of its class overlaps it by
    more than `iou_threshold`. Equal scores keep their order. Returns at most `max_out` indices, best first.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, kinds = boxes[order], classes[order]
    beaten = _overlaps(ranked, ranked, kinds, kinds, iou_threshold) if len(order) <= _MATRIX_LIMIT else None
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    for rank in range(len(order)):
        if len(kept) >= max_out:
            break
        if not alive[rank]:
            continue
        kept.append(rank)
        if beaten is not None:
            row = beaten[rank]
        else:
            one = slice(rank, rank + 1)
            row = _overlaps(ranked[one], ranked, kinds[one], kinds, iou_threshold)[0]
        alive &= ~row
    return order[kept]


def _areas(boxes: F32) -> F32:
    width = np.maximum(boxes[:, 2] - boxes[:, 0], 0)
    height = np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    areas: F32 = width * height
    return areas


def _overlaps(
    a: F32, b: F32, a_kinds: npt.NDArray[np.integer], b_kinds: npt.NDArray[np.integer], iou_threshold: float
) -> npt.NDArray[np.bool_]:
    over = iou_matrix(a, b) > iou_threshold
    over &= a_kinds[:, None] == b_kinds[None, :]
    return over
