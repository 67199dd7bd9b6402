"""Owns what a plan says of a model's answers against those of the unsplit fp32 model. Values in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import (
    Matches,
    counts_objects,
    mask_overlap,
    match_boxes,
    mean_iou,
    tensor_agreement,
    topk_agreement,
)
from splitmesh.plan.answers.average_precision import mean_average_precision
from splitmesh.plan.bundle.schema import FidelityBin

F64 = npt.NDArray[np.float64]

MOVING = 0.01
"""`frames.track.motion` from which a frame counts as moving. People and things before a fixed camera give 0.002 to
0.008; a camera that pans half a per cent of its view per frame gives 0.01, as does somebody who fills the picture."""
_LEAST_P = 1e-12
"""Probabilities are taken to be at least this: a class that rounding made impossible must not cost infinity."""

Objects = Literal["0", "1-3", "4+", "any"]
Motion = Literal["still", "moving", "any"]


def metrics(
    kind: str,
    answers: Sequence[Answer],
    references: Sequence[Answer],
    *,
    distributions: Sequence[tuple[F64, F64]] = (),
    min_score: float = 0.3,
) -> dict[str, float]:
    """Over all evaluation frames: `answers[i]` is held against `references[i]`. Keys by kind:

    - detectors: `map50` (COCO's AP at IoU 0.5: `mean_average_precision`) and `f1` (2 TP / (2 TP + FP + FN), boxes
      counted over all frames, IoU 0.5). What the reference finds with at least `min_score` is what is to be found.
    - "classifier": `top1`, `top5` (share of frames whose reference's best class is among the one or five best; an
      answer holds no more than the manifest's top_k) and `kl` (mean of `kl_divergence` over `distributions`, pairs
      of the class probabilities of answer and reference, in nats).
    - "segmentation": `miou`, intersections and unions summed over all frames before they are divided, mean over the
      classes in any mask (Everingham et al., "The PASCAL VOC Challenge", 2010).
    - "tensor": `cosine`, mean over frames and float outputs of the cosine similarity, below 0 taken as 0; `equal`,
      the share of equal elements, over the integer outputs.

    A key is absent where there is nothing to measure it on: no object in any reference, no such output, no frame.
    Raises ValueError unless both sequences have the same length, InferenceError for NaN or Inf.
    """
    pairs = list(zip(answers, references, strict=True))
    if not pairs:
        return {}
    match kind:
        case "classifier":
            return _classifier(pairs, distributions)
        case "segmentation":
            return _segmentation(pairs)
        case "tensor":
            return _tensors(pairs)
        case _:
            return _detector(pairs, min_score)


def distribution(values: npt.NDArray[Any], activation: str) -> F64:
    """Class probabilities (C,) float64 from a classifier's raw output, (1, C) or (C,).

    "softmax": exp(v) over their sum. Any other: the values themselves, negative ones as 0, over their sum.
    """
    flat = values.astype(np.float64).ravel()
    weights = np.exp(flat - flat.max(initial=0)) if activation == "softmax" else np.maximum(flat, 0)
    total = weights.sum()
    shares: F64 = weights / total if total > 0 else np.full(len(flat), 1 / max(len(flat), 1))
    return shares


def kl_divergence(answer: F64, reference: F64) -> float:
    """Σ p ln(p / q) in nats, at least 0 (Kullback and Leibler, 1951).

    p: the reference's class probabilities (C,), q: the answer's; both are raised to at least 1e-12.
    """
    p, q = np.maximum(reference, _LEAST_P), np.maximum(answer, _LEAST_P)
    return max(float((p * np.log(p / q)).sum()), 0.0)


def content_bins(
    kind: str,
    agreements: Sequence[float],
    references: Sequence[Answer],
    motions: Sequence[float | None],
    *,
    min_score: float = 0.3,
) -> tuple[FidelityBin, ...]:
    """Mean agreement by what is in the picture: objects in the reference × whether the picture moves.

    One value each per evaluation frame. Objects are counted from `min_score`; "any" for kinds that have none.
    Motion is `frames.track.motion` since the frame before: "moving" from `MOVING`; "any" where it is None. Bins
    without frames are left out. Raises ValueError unless all have the same length.
    """
    found: dict[tuple[Objects, Motion], list[float]] = {}
    for value, reference, motion in zip(agreements, references, motions, strict=True):
        found.setdefault((_objects(kind, reference, min_score), _motion(motion)), []).append(value)
    return tuple(
        FidelityBin(objects=objects, motion=motion, frames=len(values), fidelity=float(np.mean(values)))
        for (objects, motion), values in sorted(found.items())
    )


def _objects(kind: str, reference: Answer, min_score: float) -> Objects:
    if not counts_objects(kind):
        return "any"
    count = int((reference.scores >= min_score).sum())
    return "0" if not count else "1-3" if count <= 3 else "4+"


def _motion(motion: float | None) -> Motion:
    return "any" if motion is None else "moving" if motion >= MOVING else "still"


Pairs = list[tuple[Answer, Answer]]


def _detector(pairs: Pairs, min_score: float) -> dict[str, float]:
    found: dict[str, float] = {}
    precision = mean_average_precision([a for a, _ in pairs], [r for _, r in pairs], min_score=min_score)
    if precision is not None:
        found["map50"] = precision
    counts = [match_boxes(answer, reference, min_score=min_score) for answer, reference in pairs]
    total = Matches(*(sum(column) for column in zip(*counts, strict=True)))
    if total.mine + total.theirs:
        found["f1"] = total.f1
    return found


def _classifier(pairs: Pairs, distributions: Sequence[tuple[F64, F64]]) -> dict[str, float]:
    found = {f"top{k}": float(np.mean([topk_agreement(a, r, k) for a, r in pairs])) for k in (1, 5)}
    if distributions:
        found["kl"] = float(np.mean([kl_divergence(answer, reference) for answer, reference in distributions]))
    return found


def _segmentation(pairs: Pairs) -> dict[str, float]:
    shared, either = np.zeros(2**16, np.int64), np.zeros(2**16, np.int64)
    for answer, reference in pairs:
        mine, theirs = answer.mask, reference.mask
        if mine is None or theirs is None or mine.shape != theirs.shape:
            for mask in (mine, theirs):
                if mask is not None:
                    either += np.bincount(mask.ravel(), minlength=2**16)
            continue
        both, any_of_both = mask_overlap(mine, theirs)
        shared[: len(both)] += both
        either[: len(any_of_both)] += any_of_both
    return {"miou": mean_iou(shared, either)} if either.any() else {}


def _tensors(pairs: Pairs) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for answer, reference in pairs:
        for name, theirs in reference.tensors.items():
            mine = answer.tensors.get(name)
            value = 0.0 if mine is None else tensor_agreement(name, mine, theirs)
            found.setdefault("cosine" if theirs.dtype.kind == "f" else "equal", []).append(value)
    return {key: float(np.mean(values)) for key, values in sorted(found.items())}
