"""Owns the step from a model's outputs to an answer, in numpy alone. Runs no model.

Everything here runs once per frame on a small box: scores are filtered before anything is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import ModelError
from splitmesh.frames.answer import Answer
from splitmesh.plan.answers.detections import Detections
from splitmesh.plan.answers.maps import Centernet, Segmentation
from splitmesh.plan.answers.outputs import Outputs, PostprocessFn, softmax, take_any
from splitmesh.plan.answers.ssd import Ssd
from splitmesh.plan.answers.yolo import Yolo, Yolox, Yunet, grid_cells
from splitmesh.plan.manifest import Manifest
from splitmesh.plan.manifest_kinds import (
    CenternetPostprocess,
    ClassifierPostprocess,
    DetectionsPostprocess,
    SegmentationPostprocess,
    SsdPostprocess,
    TensorPostprocess,
    YoloPostprocess,
    YoloxPostprocess,
    YunetPostprocess,
)

__all__ = ["Outputs", "PostprocessFn", "build_postprocess"]


def build_postprocess(manifest: Manifest, anchors: npt.NDArray[Any] | None) -> PostprocessFn:
    """The function from named outputs of one picture to an Answer in [0, 1] of the model's input.

    anchors: (A, 4) y_min x_min y_max x_max for kind "ssd", else None.
    Raises ModelError if anchors are missing or malformed; the returned function raises it for outputs of
    another shape than the manifest implies.
    """
    post, labels = manifest.postprocess, len(manifest.labels)
    width, height = manifest.width, manifest.height
    match post:
        case SsdPostprocess():
            return Ssd.build(post, labels, anchors)
        case YoloxPostprocess():
            return Yolox(post, labels, width, height, grid_cells(post.strides, width, height))
        case YoloPostprocess():
            return Yolo(post, labels, width, height)
        case YunetPostprocess():
            return Yunet(post, width, height, grid_cells(post.strides, width, height))
        case DetectionsPostprocess():
            return Detections(post, labels, width, height)
        case CenternetPostprocess():
            return Centernet(post, labels, width, height)
        case ClassifierPostprocess():
            return _Classifier(post, labels)
        case SegmentationPostprocess():
            return Segmentation(post, labels)
        case TensorPostprocess():
            return _Tensor(post)


@dataclass(frozen=True, slots=True)
class _Classifier:
    post: ClassifierPostprocess
    labels: int

    def __call__(self, outputs: Outputs) -> Answer:
        given = take_any(outputs, self.post.output)
        if given.size != self.labels or given.shape[0] != 1:
            raise ModelError(
                f"output {self.post.output!r} has shape {given.shape}, the manifest implies (1, {self.labels})"
            )
        values = np.asarray(given, np.float32).reshape(1, -1)
        scores = (softmax(values) if self.post.activation == "softmax" else np.clip(values, 0, 1))[0]
        best = np.argsort(-scores, kind="stable")[: self.post.top_k]
        whole = np.tile(np.array([0, 0, 1, 1], np.float32), (len(best), 1))
        return Answer(whole, scores[best], best.astype(np.uint16))


@dataclass(frozen=True, slots=True)
class _Tensor:
    post: TensorPostprocess

    def __call__(self, outputs: Outputs) -> Answer:
        return Answer.of_tensors({name: take_any(outputs, name) for name in self.post.outputs or outputs})
