"""Owns agreement: how close one answer is to the answer of the unsplit fp32 model. Always in [0, 1]."""

from __future__ import annotations

import numpy as np

from splitmesh.frames.answer import Answer
from splitmesh.frames.boxes import iou_matrix


def f1_at_iou(answer: Answer, reference: Answer, *, iou: float = 0.5, min_score: float = 0.3) -> float:
    """F1 of `answer` against `reference`, boxes below `min_score` ignored on both sides.

    Matching is greedy and one to one within a class: boxes of the answer, best first, take the free reference
    box that they overlap most, if by at least `iou` (PASCAL VOC's rule). Both empty: 1.0; one empty: 0.0.
    """
    mine = np.flatnonzero(answer.scores >= min_score)
    theirs = np.flatnonzero(reference.scores >= min_score)
    if not len(mine) and not len(theirs):
        return 1.0
    if not len(mine) or not len(theirs):
        return 0.0
    mine = mine[np.argsort(-answer.scores[mine], kind="stable")]
    overlap = iou_matrix(answer.boxes[mine], reference.boxes[theirs])
    overlap[answer.classes[mine][:, None] != reference.classes[theirs][None, :]] = -1
    matched = 0
    for row in overlap:
        best = int(np.argmax(row))
        if row[best] >= iou and row[best] > 0:
            matched += 1
            overlap[:, best] = -1
    return 2 * matched / (len(mine) + len(theirs))


def top1_agreement(answer: Answer, reference: Answer) -> float:
    """1.0 if the best class of both is the same (or both are empty), else 0.0."""
    if not len(answer) or not len(reference):
        return float(len(answer) == len(reference))
    mine = answer.classes[int(np.argmax(answer.scores))]
    theirs = reference.classes[int(np.argmax(reference.scores))]
    return float(mine == theirs)


def agreement(kind: str, answer: Answer, reference: Answer, *, iou: float = 0.5, min_score: float = 0.3) -> float:
    """Fidelity in [0, 1] for a post-processing kind: top-1 for "classifier", else F1 at `iou`."""
    if kind == "classifier":
        return top1_agreement(answer, reference)
    return f1_at_iou(answer, reference, iou=iou, min_score=min_score)
