"""Owns agreement: how close one answer is to the answer of the unsplit fp32 model. Always in [0, 1]."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError, InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.boxes import iou_matrix
from splitmesh.frames.tensors import Array

_WITHOUT_OBJECTS = {
    "classifier": "top-1 agreement",
    "segmentation": "mean IoU",
    "tensor": "cosine similarity",
}

I64 = npt.NDArray[np.int64]


def counts_objects(kind: str) -> bool:
    """True for the post-processing kinds that are detectors."""
    return kind not in _WITHOUT_OBJECTS


def measure_of(kind: str) -> str:
    """What `agreement` measures, in words: "F1@IoU0.5", "top-1 agreement", …"""
    return _WITHOUT_OBJECTS.get(kind, "F1@IoU0.5")


def agreement(kind: str, answer: Answer, reference: Answer, *, iou: float = 0.5, min_score: float = 0.3) -> float:
    """Fidelity in [0, 1] for a post-processing kind.

    "classifier": top-1. "segmentation": mean IoU of the masks. "tensor": mean over the outputs of `tensor_agreement`.
    Any other: F1 at `iou`. An answer that lacks what its reference has, or the other way round, has 0.
    Raises InferenceError for a tensor with NaN or Inf.
    """
    match kind:
        case "classifier":
            return top1_agreement(answer, reference)
        case "segmentation":
            mine, theirs = answer.mask, reference.mask
            if mine is None or theirs is None or mine.shape != theirs.shape:
                return float(mine is None and theirs is None)
            return mean_iou(*mask_overlap(mine, theirs))
        case "tensor":
            given, wanted = answer.tensors, reference.tensors
            shares = [tensor_agreement(name, given[name], wanted[name]) for name in given if name in wanted]
            names = given.keys() | wanted.keys()
            return sum(shares) / len(names) if names else 1.0
        case _:
            return f1_at_iou(answer, reference, iou=iou, min_score=min_score)


def tells(kind: str, answer: Answer, reference: Answer, *, min_score: float = 0.3) -> bool:
    """True if comparing these two proves anything: that both are empty does not.

    Empty means: no box of `min_score` · no class · a mask of one single class · nothing but zeros.
    """
    if counts_objects(kind):
        return any(bool((each.scores >= min_score).any()) for each in (answer, reference))
    if kind == "classifier":
        return bool(len(answer) or len(reference))
    if kind == "segmentation":
        masks = (answer.mask, reference.mask)
        flat = [mask.ravel() for mask in masks if mask is not None and mask.size]
        return len(flat) == 1 or any(bool((mask != flat[0][0]).any()) for mask in flat)
    return any(bool(tensor.any()) for each in (answer, reference) for tensor in each.tensors.values())


class Matches(NamedTuple):
    """Boxes of an answer, of its reference, and pairs of both."""

    matched: int
    mine: int
    theirs: int

    @property
    def f1(self) -> float:
        """2 matched / (mine + theirs); 1.0 where neither side has a box."""
        return 2 * self.matched / (self.mine + self.theirs) if self.mine + self.theirs else 1.0


def match_boxes(answer: Answer, reference: Answer, *, iou: float = 0.5, min_score: float = 0.3) -> Matches:
    """Boxes below `min_score` are ignored on both sides.

    Matching is greedy and one to one within a class: boxes of the answer, best first, take the free reference
    box that they overlap most, if by at least `iou` (Everingham et al., "The PASCAL VOC Challenge", 2010).
    """
    mine = np.flatnonzero(answer.scores >= min_score)
    theirs = np.flatnonzero(reference.scores >= min_score)
    if not len(mine) or not len(theirs):
        return Matches(0, len(mine), len(theirs))
    mine = mine[np.argsort(-answer.scores[mine], kind="stable")]
    overlap = iou_matrix(answer.boxes[mine], reference.boxes[theirs])
    overlap[answer.classes[mine][:, None] != reference.classes[theirs][None, :]] = -1
    matched = 0
    for row in overlap:
        best = int(np.argmax(row))
        if row[best] >= iou and row[best] > 0:
            matched += 1
            overlap[:, best] = -1
    return Matches(matched, len(mine), len(theirs))


def f1_at_iou(answer: Answer, reference: Answer, *, iou: float = 0.5, min_score: float = 0.3) -> float:
    """F1 of `answer` against `reference`, see `match_boxes`. Both empty: 1.0; one empty: 0.0."""
    return match_boxes(answer, reference, iou=iou, min_score=min_score).f1


def top1_agreement(answer: Answer, reference: Answer) -> float:
    """1.0 if the best class of both is the same (or both are empty), else 0.0."""
    return topk_agreement(answer, reference, 1)


def topk_agreement(answer: Answer, reference: Answer, k: int) -> float:
    """1.0 if the best class of `reference` is among the `k` best of `answer` (or both are empty), else 0.0."""
    if not len(answer) or not len(reference):
        return float(len(answer) == len(reference))
    best = np.argsort(-answer.scores, kind="stable")[:k]
    return float(reference.classes[int(np.argmax(reference.scores))] in answer.classes[best])


def mask_overlap(mine: Array, theirs: Array) -> tuple[I64, I64]:
    """Per class, cells that both masks give it, and cells that either does.

    Both (h, w) of unsigned integers. Raises FrameShapeError unless their shapes are the same.
    """
    if mine.shape != theirs.shape:
        raise FrameShapeError(f"masks {mine.shape} and {theirs.shape} can't be compared")
    classes = int(max(mine.max(initial=0), theirs.max(initial=0))) + 1
    shared = np.bincount(mine[mine == theirs], minlength=classes)
    either = np.bincount(mine.ravel(), minlength=classes) + np.bincount(theirs.ravel(), minlength=classes) - shared
    return shared, either


def mean_iou(shared: I64, either: I64) -> float:
    """Mean over the classes that there are at all of shared / either (Everingham et al. 2010, segmentation); 1.0
    where there is none."""
    there = either > 0
    return float((shared[there] / either[there]).mean()) if there.any() else 1.0


def tensor_agreement(name: str, mine: Array, theirs: Array) -> float:
    """Integers: share of equal elements. Floats: max(0, a·b / (|a| |b|)), in float64.

    Equal arrays have 1.0, empty ones too; if only one is all zeros, or the shapes differ, 0.0.
    Raises InferenceError that names the tensor for NaN or Inf.
    """
    if mine.shape != theirs.shape:
        return 0.0
    if mine.dtype.kind != "f" or theirs.dtype.kind != "f":
        return float((mine == theirs).mean()) if mine.size else 1.0
    a, b = mine.ravel().astype(np.float64), theirs.ravel().astype(np.float64)
    squares = float(a @ a), float(b @ b)
    if not np.isfinite(squares).all():
        raise InferenceError(f"tensor {name} holds NaN or Inf and can't be compared")
    if np.array_equal(a, b):
        return 1.0
    if 0.0 in squares:
        return 0.0
    return min(max(float(a @ b) / float(np.sqrt(squares[0]) * np.sqrt(squares[1])), 0.0), 1.0)
