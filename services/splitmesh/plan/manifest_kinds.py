"""Owns what a manifest can say of a model's outputs: one strict model per kind. Decodes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Coordinates = Literal["pixels", "unit"]
"""Of the model's input: 0 … width and height, or 0 … 1."""
Column = Literal["image", "x_min", "y_min", "x_max", "y_max", "x", "y", "width", "height", "score", "class", "other"]

BOX_COLUMNS: dict[frozenset[str], tuple[str, str, str, str]] = {
    frozenset(names): names
    for names in (
        ("x_min", "y_min", "x_max", "y_max"),
        ("x_min", "y_min", "width", "height"),
        ("x", "y", "width", "height"),
    )
}
"""The ways to write a box in columns; x and y alone are its centre."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Detector(Strict):
    score_threshold: Share = 0.3
    """Boxes that score less are not reported."""
    iou_threshold: Share = 0.5
    """Of two boxes of one class that overlap more, only the better is kept."""
    max_detections: Count = 100
    max_candidates: Count = 300
    """At most so many boxes, the best, enter non-maximum suppression."""


class SsdPostprocess(Detector):
    """Anchor-coded boxes and per-class logits (TensorFlow object detection's faster-rcnn box coder)."""

    kind: Literal["ssd"]
    boxes: Text = "boxes"
    """Output (1, A, 4): ty tx th tw relative to the anchors."""
    scores: Text = "class_logits"
    """Output (1, A, C): one column per label."""
    anchors: Text
    """File (A, 4) float32 .npy beside the manifest: y_min x_min y_max x_max in [0, 1]."""
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    background: bool = True
    """Column 0 means "nothing here" and is never reported."""
    coder_scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)


class YoloxPostprocess(Detector):
    """One output (1, N, 5 + C): x y w h objectness, then one score per label; scores already in [0, 1]."""

    kind: Literal["yolox"]
    output: Text = "output"
    strides: tuple[Count, ...] = (8, 16, 32)
    decoded: bool = False
    """The graph already turns grid offsets into input pixels."""


class YoloPostprocess(Detector):
    """One output of N decoded boxes: x y w h (x, y: the centre), objectness if any, then one score per label.

    What follows the labels' scores (masks, key points, angles) is skipped.
    """

    kind: Literal["yolo"]
    output: Text = "output0"
    box_per: Literal["column", "row"] = "column"
    """ "column": (1, 4 + C, N), as YOLOv8 and later export; "row": (1, N, 4 + C), as YOLOv5 … v7 do."""
    objectness: bool = False
    """A fifth value that multiplies the scores stands before them."""
    activation: Literal["none", "sigmoid"] = "none"
    """What the scores still need; "none": they are in [0, 1]."""
    coordinates: Coordinates = "pixels"


class YunetPostprocess(Detector):
    """Face boxes with five landmarks: per stride s the outputs cls_s, obj_s, bbox_s, kps_s."""

    kind: Literal["yunet"]
    strides: tuple[Count, ...] = (8, 16, 32)
    cls_prefix: Text = "cls_"
    obj_prefix: Text = "obj_"
    bbox_prefix: Text = "bbox_"
    kps_prefix: Text = "kps_"


class DetectionsPostprocess(Detector):
    """Boxes that the graph has decoded: rows of one output, or boxes and scores in outputs of their own."""

    kind: Literal["detections"]
    output: Text | None = None
    """(…, N, K) rows; `columns` names what they hold. Leading axes are 1; N may differ from frame to frame."""
    columns: tuple[Column, ...] = ("x_min", "y_min", "x_max", "y_max", "score", "class")
    """Further columns are skipped."""
    boxes: Text | None = None
    """(…, N, 4), in `box_order`; taken with `scores` instead of `output`."""
    scores: Text | None = None
    """(…, N) with `classes`, else (…, N, C): one column per label."""
    classes: Text | None = None
    """(…, N) class indices."""
    count: Text | None = None
    """How many of the N are meant: one element."""
    box_order: Literal["xyxy", "yxyx", "xywh", "cxcywh"] = "xyxy"
    """xywh begins at the upper left corner, cxcywh at the centre."""
    coordinates: Coordinates = "pixels"
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    """What scores (…, N, C) still need."""
    background: Literal["none", "first", "last"] = "none"
    """Which column of scores (…, N, C) means "nothing here". The labels name a first one, but not a last one."""
    suppressed: bool = True
    """The graph has suppressed overlapping boxes. Else it is done here, by `iou_threshold`."""

    @model_validator(mode="after")
    def _rows_or_outputs(self) -> DetectionsPostprocess:
        if (self.output is None) == (self.boxes is None or self.scores is None):
            raise ValueError("give `output` with `columns`, or `boxes` and `scores`")
        if self.output is not None:
            named = [name for name in self.columns if name not in ("other", "image")]
            if len(named) != len(set(named)):
                raise ValueError("columns must not name one thing twice")
            if frozenset(named) - {"score", "class"} not in BOX_COLUMNS or "score" not in named:
                raise ValueError(
                    "columns must name score and one of: x_min y_min x_max y_max · x_min y_min width height · "
                    "x y width height"
                )
        return self


class CenternetPostprocess(Detector):
    """A heatmap per label, whose peaks are centres, with the boxes' sizes and the centres' offsets at each cell."""

    kind: Literal["centernet"]
    heatmap: Text = "heatmap"
    """Output (1, C, h, w)."""
    size: Text = "size"
    """Output (1, 2, h, w): width, height."""
    offset: Text | None = None
    """Output (1, 2, h, w): x, y of the centre within the cell, in cells."""
    order: Literal["xy", "yx"] = "xy"
    """ "yx": height before width and y before x in these two outputs, as CenterFace has it."""
    activation: Literal["sigmoid", "none"] = "sigmoid"
    """What the heatmap still needs; "none": it is in [0, 1]."""
    size_activation: Literal["none", "exp"] = "none"
    """ "exp": the sizes are logarithms."""
    size_unit: Literal["cells", "pixels"] = "cells"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Of all three outputs."""


class ClassifierPostprocess(Strict):
    """One output (1, C), also (1, C, 1, 1): the `top_k` best labels, each with the whole picture as its box."""

    kind: Literal["classifier"]
    output: Text = "logits"
    activation: Literal["softmax", "none"] = "softmax"
    top_k: Count = 5


class SegmentationPostprocess(Strict):
    """A class per pixel: the answer holds `mask` (h, w) of the output's size, uint8, or uint16 beyond 256 labels.

    Two labels and one channel: label 1 where the value is at least `threshold`, else label 0.
    """

    kind: Literal["segmentation"]
    output: Text = "output"
    """(1, C, h, w), or (1, h, w, C); with `holds = "labels"` a map (h, w) behind any axes of 1."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    holds: Literal["scores", "labels"] = "scores"
    """ "scores": any number that is greatest for the right class; "labels": class indices."""
    activation: Literal["sigmoid", "none"] = "none"
    """What a single channel still needs before it is held against `threshold`."""
    threshold: Share = 0.5


class TensorPostprocess(Strict):
    """Outputs as they are: the answer holds them by name. No labels needed."""

    kind: Literal["tensor"]
    outputs: tuple[Text, ...] = ()
    """Which ones; none named: all."""


Postprocess = Annotated[
    SsdPostprocess
    | YoloxPostprocess
    | YoloPostprocess
    | YunetPostprocess
    | DetectionsPostprocess
    | CenternetPostprocess
    | ClassifierPostprocess
    | SegmentationPostprocess
    | TensorPostprocess,
    Field(discriminator="kind"),
]

KINDS = ("ssd", "yolox", "yolo", "yunet", "detections", "centernet", "classifier", "segmentation", "tensor")


def output_names(post: Postprocess) -> tuple[str, ...]:
    """The outputs that post-processing of this kind reads; none for "all of them"."""
    match post:
        case SsdPostprocess():
            return (post.boxes, post.scores)
        case YunetPostprocess():
            prefixes = (post.cls_prefix, post.obj_prefix, post.bbox_prefix, post.kps_prefix)
            return tuple(f"{prefix}{stride}" for prefix in prefixes for stride in post.strides)
        case DetectionsPostprocess():
            named = (post.output, post.boxes, post.scores, post.classes, post.count)
            return tuple(name for name in named if name is not None)
        case CenternetPostprocess():
            return (post.heatmap, post.size) if post.offset is None else (post.heatmap, post.size, post.offset)
        case TensorPostprocess():
            return post.outputs
        case _:
            return (post.output,)
