"""Owns decoding of anchor-coded boxes with per-class logits. Filters scores before it decodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import ModelError
from splitmesh.frames.answer import F32, Answer
from splitmesh.plan.answers.outputs import Indices, Outputs, best, softmax, suppress, take
from splitmesh.plan.manifest_kinds import SsdPostprocess

# exp() of more than this is far beyond any picture; the bound keeps float32 finite.
_MAX_LOG_SIZE = 20.0


@dataclass(frozen=True, slots=True)
class Ssd:
    """From outputs (1, A, 4) and (1, A, C) to an answer."""

    post: SsdPostprocess
    labels: int
    centres: F32
    """(A, 4) cy cx h w of the anchors."""

    @staticmethod
    def build(post: SsdPostprocess, labels: int, anchors: npt.NDArray[Any] | None) -> Ssd:
        """anchors: (A, 4) y_min x_min y_max x_max. Raises ModelError if they are missing or malformed."""
        if anchors is None:
            raise ModelError("postprocess kind 'ssd' needs anchors, and none were given")
        if anchors.ndim != 2 or anchors.shape[1] != 4 or not len(anchors):
            raise ModelError(f"anchors must have shape (A, 4), got {anchors.shape}")
        corners = anchors.astype(np.float32)
        size = corners[:, 2:] - corners[:, :2]
        return Ssd(post, labels, np.concatenate([corners[:, :2] + size / 2, size], axis=1))

    def __call__(self, outputs: Outputs) -> Answer:
        n = len(self.centres)
        logits = take(outputs, self.post.scores, (1, n, self.labels))[0]
        codes = take(outputs, self.post.boxes, (1, n, 4))[0]
        rows, classes, scores = self._candidates(logits)
        if not len(rows):
            return Answer.empty()
        rows, classes, scores = best(self.post.max_candidates, scores, rows, classes)
        return suppress(self.post, self._decode(codes[rows], self.centres[rows]), scores, classes)

    def _candidates(self, logits: F32) -> tuple[Indices, Indices, F32]:
        first = int(self.post.background)
        level = math.log(self.post.score_threshold / (1 - self.post.score_threshold))
        if self.post.activation == "sigmoid":
            hits = np.flatnonzero(logits[:, first:] >= level)
            rows, columns = np.divmod(hits, self.labels - first)
            classes = columns + first
            return rows, classes, 1 / (1 + np.exp(-logits[rows, classes]))
        # p_c >= t implies l_c - l_0 >= log(t / (1 - t)) with a background class, so most rows need no softmax.
        busy = np.flatnonzero(logits[:, 1:].max(axis=1) - logits[:, 0] >= level) if first else np.arange(len(logits))
        scores = softmax(logits[busy])
        local, columns = np.nonzero(scores[:, first:] >= self.post.score_threshold)
        return busy[local], columns + first, scores[local, columns + first]

    def _decode(self, codes: F32, anchors: F32) -> F32:
        """Box coder of Faster R-CNN (Ren et al. 2015, eq. 2) with TensorFlow's scales: to x_min y_min x_max y_max."""
        t = codes / np.asarray(self.post.coder_scales, np.float32)
        centre = t[:, :2] * anchors[:, 2:] + anchors[:, :2]
        half = np.exp(np.minimum(t[:, 2:], _MAX_LOG_SIZE)) * anchors[:, 2:] / 2
        corners: F32 = np.concatenate([centre - half, centre + half], axis=1)[:, [1, 0, 3, 2]]
        return corners
