"""Owns the translation of one model's classes into another's, by their names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from splitmesh.errors import ModelError
from splitmesh.frames.answer import Answer
from splitmesh.plan.answers.outputs import Outputs, PostprocessFn


def relabelled(postprocess: PostprocessFn, labels: Sequence[str], wanted: Sequence[str]) -> PostprocessFn:
    """`postprocess` of a model with `labels`, giving answers in the classes of a model with labels `wanted`.

    Names match without regard to case and surrounding blanks. Boxes of a class that the other model does not have are
    dropped. Raises ModelError if they have no class in common, for then the one can't stand in for the other.
    """
    place = {label.strip().casefold(): index for index, label in reversed(list(enumerate(wanted)))}
    table = np.array([place.get(label.strip().casefold(), -1) for label in labels], np.int64)
    if not (table >= 0).any():
        raise ModelError(
            f"the smaller model's labels ({_some(labels)}) and the model's ({_some(wanted)}) have none in common",
            advice="give it a manifest with the same names for the same things",
        )

    def read(outputs: Outputs) -> Answer:
        answer = postprocess(outputs)
        classes = np.where(answer.classes < len(table), table[np.minimum(answer.classes, len(table) - 1)], -1)
        keep = np.flatnonzero(classes >= 0)
        marks = answer.points.shape[1]
        points = answer.points[keep] if marks else np.zeros((len(keep), 0, 2), np.float32)
        return Answer(
            answer.boxes[keep], answer.scores[keep], classes[keep].astype(np.uint16), points, answer.tensors
        )

    return read


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")
