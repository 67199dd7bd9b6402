"""Owns which numbers of a model's outputs its answer hangs on, on a scale where equal changes matter alike.

A score p moves an answer most where it is uncertain. 2·arcsin √p for a yes/no score, 2·√p for a distribution are the
coordinates in which the Fisher information is the identity (Rao, "Information and the accuracy attainable in the
estimation of statistical parameters", 1945): squared differences in them are what a change tells of the classes.
Boxes are left out: measured on a detector, they made the components no better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from splitmesh.plan.manifest_kinds import (
    CenternetPostprocess,
    ClassifierPostprocess,
    DetectionsPostprocess,
    Postprocess,
    SegmentationPostprocess,
    SsdPostprocess,
    TensorPostprocess,
    YoloPostprocess,
    YoloxPostprocess,
    YunetPostprocess,
)

F32 = npt.NDArray[np.float32]
Outputs = Mapping[str, npt.NDArray[Any]]
Relevant = Callable[[Outputs, Outputs], F32]
"""Of outputs of one frame and of B variations of it (batch first in both): (B, D), the same D for the same frame."""

CHANCE: Final = 0.02
"""Candidates whose best score is below this at the frame itself are left out."""
FEWEST: Final = 5
"""Of the candidates, the best, are looked at even so."""


def relevant(post: Postprocess) -> Relevant | None:
    """What matters in the outputs of a model with this post-processing; None if that can't be told from numbers.

    None: boxes that the graph itself has suppressed or listed, maps of labels.
    """
    match post:
        case ClassifierPostprocess() | SegmentationPostprocess() | TensorPostprocess():
            return _of_maps(post)
        case _:
            scores = _scores(post)
            return None if scores is None else _of_candidates(scores)


def _of_candidates(scores: Callable[[Outputs], F32]) -> Relevant:
    def look(base: Outputs, varied: Outputs) -> F32:
        best = scores(base)[0].max(axis=1)
        chosen = np.flatnonzero(best > CHANCE)
        if len(chosen) < FEWEST:
            chosen = np.argsort(-best, kind="stable")[:FEWEST]
        return _yes_or_no(scores(varied)[:, chosen])

    return look


def _scores(post: Postprocess) -> Callable[[Outputs], F32] | None:
    """The function from outputs of B frames to probabilities (B, candidates, labels)."""
    match post:
        case SsdPostprocess():
            first = int(post.background)
            return lambda outputs: _activated(outputs[post.scores], post.activation, -1)[..., first:]
        case YoloxPostprocess():
            return lambda outputs: outputs[post.output][..., 5:] * outputs[post.output][..., 4:5]
        case YoloPostprocess():
            return lambda outputs: _yolo(post, outputs[post.output])
        case YunetPostprocess():
            names = [(f"{post.cls_prefix}{stride}", f"{post.obj_prefix}{stride}") for stride in post.strides]
            return lambda outputs: np.concatenate(
                [np.sqrt(_share(outputs[a]) * _share(outputs[b])) for a, b in names], axis=1
            )
        case CenternetPostprocess():
            return lambda outputs: _cells(_activated(outputs[post.heatmap], post.activation, 1), post.layout)
        case DetectionsPostprocess(suppressed=False, scores=str(name), classes=None):
            last = -1 if post.background == "last" else None
            part = slice(1 if post.background == "first" else 0, last)
            return lambda outputs: _rows(_activated(outputs[name], post.activation, -1)[..., part])
        case _:
            return None


def _of_maps(post: ClassifierPostprocess | SegmentationPostprocess | TensorPostprocess) -> Relevant | None:
    match post:
        case ClassifierPostprocess():
            return lambda _, varied: _flat(
                2 * np.sqrt(_share(_activated(_flat(varied[post.output]), post.activation, 1)))
            )
        case SegmentationPostprocess(holds="labels"):
            return None
        case SegmentationPostprocess():
            axis = 1 if post.layout == "NCHW" else 3
            return lambda _, varied: _flat(_map(varied[post.output], axis, post.activation))
        case TensorPostprocess():
            return lambda base, varied: _tensors(base, varied, post.outputs or tuple(base))


def _yolo(post: YoloPostprocess, table: F32) -> F32:
    rows = table.reshape(len(table), *table.shape[-2:])
    rows = rows if post.box_per == "row" else rows.transpose(0, 2, 1)
    values = _activated(rows[..., 4:], post.activation, -1)
    return values[..., 1:] * values[..., :1] if post.objectness else values


def _map(values: F32, axis: int, activation: str) -> F32:
    if values.shape[axis] == 1:
        return _yes_or_no(_activated(values, activation, axis))
    return 2 * np.sqrt(_activated(values, "softmax", axis))


def _tensors(base: Outputs, varied: Outputs, names: tuple[str, ...]) -> F32:
    parts = [np.zeros((len(next(iter(varied.values()))), 0), np.float32)]
    for name in names:
        if base[name].dtype.kind == "f":
            spread = max(float(base[name].std(dtype=np.float64)), 1e-12) * np.sqrt(base[name].size)
            parts.append(_flat(varied[name] / np.float32(spread)))
    return np.concatenate(parts, axis=1)


def _activated(values: npt.NDArray[Any], activation: str, axis: int) -> F32:
    x = values.astype(np.float32)
    match activation:
        case "sigmoid":
            return np.asarray(1 / (1 + np.exp(-np.clip(x, -87, 87))), np.float32)
        case "softmax":
            x = np.exp(x - x.max(axis=axis, keepdims=True))
            return np.asarray(x / x.sum(axis=axis, keepdims=True), np.float32)
        case _:
            return x


def _yes_or_no(p: F32) -> F32:
    return _flat(2 * np.arcsin(np.sqrt(_share(p))))


def _share(p: npt.NDArray[Any]) -> F32:
    return np.asarray(np.clip(p, 0, 1), np.float32)


def _cells(heat: F32, layout: str) -> F32:
    return _rows(np.moveaxis(heat, 1, -1) if layout == "NCHW" else heat)


def _rows(values: F32) -> F32:
    """(B, …, C) to (B, N, C)."""
    return values.reshape(len(values), -1, values.shape[-1])


def _flat(values: npt.NDArray[Any]) -> F32:
    return np.asarray(values.reshape(len(values), -1), np.float32)
