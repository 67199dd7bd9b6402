"""Owns guessing detectors whose boxes the graph has decoded: suppressed there, or with a score per class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from splitmesh.plan.guess.evidence import Evidence, Output, Reading, within
from splitmesh.plan.guess.feed import PLAIN, RAW, ULTRALYTICS, Feed
from splitmesh.plan.guess.grids import grid_of
from splitmesh.plan.manifest_kinds import Column, Coordinates, DetectionsPostprocess

_FEW = 1000
"""More boxes than this are hardly what a graph has chosen."""
_LEAST_BOXES = 10
"""Fewer rows of four are hardly boxes of a detector."""
_CORNERS: tuple[Column, ...] = ("x_min", "y_min", "x_max", "y_max")
_ROWS: tuple[tuple[Column, ...], ...] = (
    (*_CORNERS, "score", "class"),
    ("class", "score", *_CORNERS),
    (*_CORNERS, "class", "score"),
    ("image", *_CORNERS, "class", "score"),
    ("image", "class", "score", *_CORNERS),
)
"""YOLOv10 and v26, PaddleDetection, torch exports, YOLOv7, Caffe and OpenVINO."""
_BOXES = Feed("detectors", PLAIN.range)
_PIXELS = Feed("TensorFlow's detectors", RAW)


def read_suppressed(e: Evidence) -> Reading | None:
    """Boxes, scores and classes, an output each, and perhaps their number."""
    for boxes in e.outputs:
        if len(boxes.inner) != 2 or boxes.shape[-1] != 4 or not boxes.port.is_float:
            continue
        n = boxes.inner[0]
        beside = [o for o in e.outputs if o is not boxes and _is_list(o, n)]
        classes = _named(beside, r"class|label|categor") or _first([o for o in beside if not o.port.is_float])
        rest = [o for o in beside if o is not classes and o.port.is_float]
        scores = _named(rest, r"score|conf|prob") or _first(rest)
        if classes is None or scores is None:
            continue
        count = _named([o for o in e.outputs if _is_one(o)], r"num|count|valid")
        chosen = e.suppresses or n is None or n <= _FEW
        order = _order(e, boxes)
        coordinates = _coordinates(boxes)
        labels, named = _labels_of(e, classes.numbers)
        said = f"took {boxes} as boxes ({order}, {_unit(coordinates)}) with scores {scores} and classes {classes}"
        post = DetectionsPostprocess(
            kind="detections",
            boxes=boxes.name,
            scores=scores.name,
            classes=classes.name,
            count=count.name if count else None,
            box_order=order,
            coordinates=coordinates,
            suppressed=chosen,
        )
        return Reading(post, labels, _feed(e), (f"{said}, {_already(chosen)}", named))
    return None


def read_listed(e: Evidence) -> Reading | None:
    """One output whose rows hold box, score and class."""
    for output in e.outputs:
        if len(output.inner) != 2 or not output.port.is_float:
            continue
        n, width = output.inner
        chosen = e.suppresses or "TopK" in e.facts.operators
        if width is None or not (width in (6, 7) or (width > 7 and chosen and n == 300)):
            continue
        if not chosen and (n is None or n < 2 or n > _FEW or grid_of(n, e) is not None):
            continue
        columns = _columns(e, output)
        if columns is None:
            continue
        rows = output.rows
        boxes = rows[rows[:, columns.index("score")] > 0][:, [columns.index(c) for c in _CORNERS]]
        coordinates: Coordinates = "unit" if within(boxes, -0.5, 1.5) else "pixels"
        labels, named = _labels_of(e, rows[:, columns.index("class")])
        said = f"took {output} as suppressed boxes, a row each of {', '.join(columns)} ({_unit(coordinates)})"
        post = DetectionsPostprocess(
            kind="detections", output=output.name, columns=columns, coordinates=coordinates, suppressed=True
        )
        return Reading(post, labels, _feed(e), (f"{said}, because that is how such graphs end", named))
    return None


def read_separate(e: Evidence) -> Reading | None:
    """Decoded boxes in one output, a score per class in another."""
    for boxes in e.outputs:
        shape = tuple(n for n in boxes.inner if n != 1)
        if len(shape) != 2 or shape[1] != 4 or shape[0] is None or shape[0] < _LEAST_BOXES or not boxes.samples:
            continue
        n = shape[0]
        scores = next((o for o in e.outputs if o is not boxes and _is_table(o, n)), None)
        order = _decoded_order(e, boxes, scores)
        if scores is None or order is None:
            continue
        coordinates = _coordinates(boxes)
        width = 1 if _is_list(scores, n) else scores.shape[-1] or 1
        few = n <= _FEW
        activation, background = _activation(scores, width, few=few)
        count = width - (background == "last")
        labels, named = e.labels(count)
        said = (
            f"took {boxes} as decoded boxes ({order}, {_unit(coordinates)}) and {scores} as their scores per class "
            f"({_activated(activation)}{', the ' + background + ' column being background' * (background != 'none')})"
        )
        post = DetectionsPostprocess(
            kind="detections",
            boxes=boxes.name,
            scores=scores.name,
            box_order=order,
            coordinates=coordinates,
            activation=activation,
            background=background,
            suppressed=few,
        )
        return Reading(post, labels, e.usual if few else _feed(e), (said, named))
    return None


def undecoded_boxes(e: Evidence) -> str:
    """What to say of boxes that only anchors, which no graph holds, could decode; "" if there are none."""
    for boxes in e.outputs:
        shape = boxes.inner
        if len(shape) == 2 and shape[1] == 4 and shape[0] is not None and shape[0] >= _LEAST_BOXES:
            scores = next((o for o in e.outputs if o is not boxes and _is_table(o, shape[0])), None)
            if scores is not None:
                return (
                    f"{boxes} and {scores} look like boxes coded relative to anchors; a manifest of kind ssd "
                    "that names a file with the anchors would give boxes"
                )
    return ""


def _is_list(output: Output, n: int | None) -> bool:
    """One number per box."""
    sizes = [size for size in output.shape if size != 1]
    return (sizes == [n] or (n == 1 and not sizes)) and len(output.shape) > 0


def _is_table(output: Output, n: int) -> bool:
    """Some numbers per box, (…, N, C), or one, (…, N)."""
    return output.port.is_float and (_is_list(output, n) or (len(output.shape) > 1 and output.shape[-2] == n))


def _is_one(output: Output) -> bool:
    return all(size in (1, None) for size in output.shape)


def _named(outputs: Sequence[Output], pattern: str) -> Output | None:
    return _first([o for o in outputs if re.search(pattern, o.name.lower())])


def _first(outputs: Sequence[Output]) -> Output | None:
    return outputs[0] if outputs else None


def _order(e: Evidence, boxes: Output) -> Literal["xyxy", "yxyx", "cxcywh"]:
    if boxes.name.lower().startswith("detection_boxes") or e.facts.producer.startswith(("tf", "tensorflow")):
        return "yxyx"
    return "xyxy" if _are_corners(boxes) or not boxes.numbers.size else "cxcywh"


def _are_corners(boxes: Output) -> bool:
    """Nearly all rows have the second corner behind the first."""
    rows = boxes.rows
    return bool(len(rows) and ((rows[:, 2] >= rows[:, 0]) & (rows[:, 3] >= rows[:, 1])).mean() >= 0.99)


def _decoded_order(e: Evidence, boxes: Output, scores: Output | None) -> Literal["xyxy", "yxyx", "cxcywh"] | None:
    """None for boxes that are not decoded, or can't be seen to be."""
    if scores is None:
        return None
    numbers = boxes.numbers
    if within(numbers, 0.0, 1.0) and ("Sigmoid" in boxes.closing or not _are_corners(boxes)):
        return "cxcywh"
    if not _are_corners(boxes) or (boxes.rows[:, 2:] - boxes.rows[:, :2]).max() <= _SLACK_SIDE:
        return None
    inside = within(numbers, -1.0, 2.0) or within(numbers, -float(e.width), 2.0 * max(e.width, e.height))
    return _order(e, boxes) if inside and numbers.mean() > 0 else None


_SLACK_SIDE = 1e-6


def _coordinates(boxes: Output) -> Coordinates:
    return "unit" if within(boxes.numbers, -1.0, 2.0) else "pixels"


def _activation(
    scores: Output, width: int, *, few: bool
) -> tuple[Literal["none", "sigmoid", "softmax"], Literal["none", "first", "last"]]:
    """What the scores still need, and which column is background. few: of a set predictor, as DETR is."""
    if scores.is_unit:
        sums_to_one = width > 1 and bool(np.allclose(scores.rows.sum(axis=1), 1, atol=1e-2))
        return "none", ("last" if few else "first") if sums_to_one else "none"
    return ("softmax", "last") if few and width in (92, 251) else ("sigmoid", "none")


def _columns(e: Evidence, output: Output) -> tuple[Column, ...] | None:
    """The first known order whose score, class and image columns hold such numbers; None if none does."""
    rows = output.rows
    width = rows.shape[1] if rows.size else output.inner[1]
    known = [order for order in _ROWS if len(order) == (width if width in (6, 7) else 6)]
    if "paddle" in e.facts.producer:
        known.sort(key=lambda order: order[0] != "class")
    if len(output.shape) == 4:
        known.sort(key=lambda order: order[1] != "class")
    for order in known:
        if not rows.size:
            return order
        score = rows[:, order.index("score")]
        whole = rows[:, [order.index(name) for name in ("class", "image") if name in order]]
        fits = within(score, -1.0, 1.0) and bool((whole == np.rint(whole)).all()) and whole.min() >= -1
        corners = rows[score > 0][:, [order.index(name) for name in _CORNERS]]
        if fits and bool((corners[:, 2:] >= corners[:, :2]).all()):
            return order
    return None


def _labels_of(e: Evidence, classes: npt.NDArray[np.float64]) -> tuple[tuple[str, ...], str]:
    """Labels of a detector that only gives indices."""
    highest = int(classes.max()) if classes.size else 0
    named = e.named_classes
    if len(named) > highest:
        return named, f"the labels are those in the file's metadata ({len(named)})"
    count = 80 if highest < 80 else highest + 1
    tensorflow = any(o.name.lower().startswith("detection_") for o in e.outputs)
    torchvision = {"boxes", "labels", "scores"} <= {o.name for o in e.outputs}
    if (tensorflow or torchvision) and highest < 91:
        count = 91
    labels, _ = e.labels(count)
    whose = "COCO's" if count in (80, 91) else "numbers"
    return labels, f"took {whose} as the labels ({count}), since the file does not say how many classes there are"


def _feed(e: Evidence) -> Feed:
    if e.is_ultralytics:
        return ULTRALYTICS
    return _PIXELS if e.facts.producer.startswith(("tf", "tensorflow")) else _BOXES


def _unit(coordinates: Coordinates) -> str:
    return "in pixels of the input" if coordinates == "pixels" else "0 … 1"


def _already(chosen: bool) -> str:
    return "suppressed in the graph" if chosen else "too many to have been suppressed in the graph"


def _activated(activation: str) -> str:
    return "in [0, 1] already" if activation == "none" else f"to go through {activation}"
