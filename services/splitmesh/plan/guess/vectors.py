"""Owns guessing outputs without a place in the picture: classifiers, embeddings, and whatever nothing else fits."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from splitmesh.errors import ModelError
from splitmesh.frames.tensors import MAX_BYTES, MAX_DIMS, MAX_TENSORS
from splitmesh.plan.guess.boxes import undecoded_boxes
from splitmesh.plan.guess.evidence import Evidence, Output, Reading
from splitmesh.plan.guess.feed import FACES, PLAIN, PLAIN_CLASSIFIER, Feed
from splitmesh.plan.guess.labels import labels_by_count
from splitmesh.plan.manifest_kinds import ClassifierPostprocess, TensorPostprocess

_EMBEDDINGS = frozenset(
    {64, 96, 128, 160, 192, 256, 320, 384, 448, 512, 576, 640, 768, 960, 1024, 1152, 1280, 1408, 1536, 1664, 1792}
    | {2048, 2560, 3072, 4096}
)
_MOST_CLASSES = 1001
_ALSO = (10_450, 21_841, 21_843)
"""ImageNet-21k, by how much of it was kept."""
_ENDS = frozenset(
    {"Gemm", "MatMul", "Add", "Conv", "GlobalAveragePool", "AveragePool", "ReduceMean", "LogSoftmax"}
    | {"FusedGemm", "FusedMatMul", "FusedConv", "QGemm", "QLinearMatMul", "QLinearConv", "QLinearAdd"}
    | {"QLinearGlobalAveragePool", "QLinearAveragePool"}
)


def read_classifier(e: Evidence) -> Reading | None:
    """One row of scores: the only output that is one, or the first of those with ImageNet's count."""
    vectors = [o for o in e.outputs if _length(o) is not None]
    known = [o for o in vectors if labels_by_count(_length(o) or 0)[1].startswith("ImageNet")]
    if not vectors or (len(e.outputs) > 1 and not known):
        return None
    output = (known or vectors)[0]
    count = _length(output) or 0
    summed = bool(output.samples) and output.is_unit and bool(np.allclose(output.pictures.sum(axis=1), 1, atol=1e-2))
    if count < 2 or not (summed or output.closing & {"Softmax", "Sigmoid"} or _are_logits(e, output, count)):
        return None
    activated = summed or bool(output.closing & {"Softmax", "Sigmoid"})
    activation: Literal["softmax", "none"] = "none" if activated else "softmax"
    labels, named = e.labels(count)
    why = (
        "sum to 1"
        if summed
        else "end in " + " and ".join(sorted(output.closing))
        if activated
        else "look like logits"
    )
    post = ClassifierPostprocess(kind="classifier", output=output.name, activation=activation, top_k=min(5, count))
    feed = PLAIN_CLASSIFIER if e.facts.metadata.get("task") == "classify" else e.usual
    return Reading(post, labels, feed, (f"took {output} as scores of {count} classes, because they {why}", named))


def read_tensor(e: Evidence, *, flat: bool = False) -> Reading:
    """The outputs as they are: what fits every model. Raises ModelError if an answer can hold none of them."""
    names: list[str] = []
    left = MAX_BYTES
    for output in e.outputs:
        size = math.prod(n or 1 for n in output.shape) * 8
        if size <= left and len(names) < MAX_TENSORS and len(output.shape) <= MAX_DIMS:
            names.append(output.name)
            left -= size
    if not names:
        sizes = ", ".join(map(str, e.outputs))
        raise ModelError(
            f"the model gives {sizes}, more than an answer can hold ({MAX_BYTES / 1e6:.0f} MB)",
            advice="export it for a smaller picture",
        )
    said = [_why_raw(e, flat=flat)]
    if len(names) < len(e.outputs):
        said.append(f"left out {len(e.outputs) - len(names)} outputs: an answer can't hold them all")
    post = TensorPostprocess(kind="tensor", outputs=tuple(names))
    return Reading(post, (), _raw_feed(e), tuple(said))


def _why_raw(e: Evidence, *, flat: bool) -> str:
    shown = ", ".join(map(str, e.outputs[:4])) + (", …" if len(e.outputs) > 4 else "")
    coded = "" if flat else undecoded_boxes(e)
    if coded:
        return f"kept the outputs as they are: {coded}"
    if _is_embedding(e):
        return f"kept {shown} as it is: it looks like an embedding"
    return f"kept the outputs as they are, {shown}: they fit no kind that splitmesh can interpret"


def _raw_feed(e: Evidence) -> Feed:
    if undecoded_boxes(e):
        return e.usual
    return FACES if _is_embedding(e) and (e.height, e.width) == (112, 112) else PLAIN


def _is_embedding(e: Evidence) -> bool:
    length = _length(e.outputs[0]) if len(e.outputs) == 1 else None
    return length in _EMBEDDINGS


def _length(output: Output) -> int | None:
    """C of (1, C), also (1, C, 1, 1); None for other forms."""
    shape = output.shape
    if len(shape) < 2 or not output.port.is_float or shape[0] not in (1, None) or None in shape[1:]:
        return None
    sizes = [n for n in shape[1:] if n != 1]
    return (sizes[0] if sizes else 1) if len(sizes) < 2 else None


def _are_logits(e: Evidence, output: Output, count: int) -> bool:
    if count == len(e.named_classes) or labels_by_count(count)[1].startswith("ImageNet"):
        return True
    lengths = np.linalg.norm(output.pictures, axis=1) if output.samples else np.zeros(0)
    normalised = len(lengths) > 0 and bool(np.allclose(lengths, 1, atol=1e-2))
    if normalised or count in _EMBEDDINGS or (count > _MOST_CLASSES and count not in _ALSO):
        return False
    return bool(output.closing & _ENDS)
