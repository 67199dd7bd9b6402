"""Owns guessing grid detectors: YOLOX, YuNet, YOLOv5 to v11, told by how many cells their grids have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from splitmesh.plan.answers.yolo import grid_cells
from splitmesh.plan.guess.evidence import Evidence, Output, Reading, within
from splitmesh.plan.guess.feed import ULTRALYTICS, YOLOX, YUNET
from splitmesh.plan.manifest_kinds import YoloPostprocess, YoloxPostprocess, YunetPostprocess

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (16, 32), (4, 8, 16, 32))
_MASKS = 32
"""Mask coefficients per box, where an output of as many prototypes is there too."""
_POSE_ROWS = 56
"""Values per box of a person with 17 key points of three numbers each: 4 + 1 + 51."""
_QUERIES = 1000
"""Most boxes of a set predictor, which has no grid."""
_NEAR = 4.0
"""A decoded centre is, as a rule, not further than so many cells from the cell that found it."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Strides whose cells, times `anchors`, are as many as an output has boxes."""

    strides: tuple[int, ...]
    anchors: int

    def said(self, e: Evidence) -> str:
        sides = " + ".join(f"{e.width // s}×{e.height // s}" for s in self.strides)
        return sides if self.anchors == 1 else f"{self.anchors} × ({sides})"


def grid_of(n: int, e: Evidence) -> Grid | None:
    """The grid that has `n` boxes on the picture of `e`."""
    for strides in _STRIDES:
        cells = sum((e.height // s) * (e.width // s) for s in strides)
        for anchors in (1, 3):
            if n == cells * anchors and cells:
                return Grid(strides, anchors)
    return None


def read_yunet(e: Evidence) -> Reading | None:
    """The twelve outputs of YuNet, by name."""
    names = {output.name for output in e.outputs}
    prefixes = ("cls_", "obj_", "bbox_", "kps_")
    strides = tuple(s for s in (8, 16, 32, 64) if {f"{prefix}{s}" for prefix in prefixes} <= names)
    if not strides:
        return None
    post = YunetPostprocess(kind="yunet", strides=strides, score_threshold=0.6, iou_threshold=0.3)
    said = f"took the outputs cls_*, obj_*, bbox_* and kps_* at strides {_listed(strides)} as YuNet's faces"
    return Reading(post, ("face",), YUNET, (f"{said}, by their names",))


def read_grid(e: Evidence) -> Reading | None:
    """One output with as many boxes as a grid has cells."""
    for output in e.outputs:
        shape = output.inner
        if len(shape) != 2 or None in shape or not output.port.is_float or _has_boxes_beside(e, output):
            continue
        first, second = (n or 0 for n in shape)
        along_rows, along_columns = grid_of(first, e), grid_of(second, e)
        if along_columns is not None and 5 <= first < second:
            return _yolo(e, output, along_columns, "column", first)
        if along_rows is not None and 5 <= second < first:
            found = _rows(e, output, along_rows, second)
            if found is not None:
                return found
        if first <= _QUERIES and second == 4 + (len(e.named_classes) or 80):
            return _yolo(e, output, None, "row", second)
    return None


def _has_boxes_beside(e: Evidence, output: Output) -> bool:
    """Another output holds as many rows of four: this one holds scores alone."""
    return any(o is not output and o.inner == (output.inner[0], 4) for o in e.outputs)


def _rows(e: Evidence, output: Output, grid: Grid, width: int) -> Reading | None:
    """(1, N, 5 + C), or 4 + C where the file names that many classes or there are COCO's 80."""
    if grid.anchors == 3:
        return _yolo(e, output, grid, "row", width)
    if width - 4 == (len(e.named_classes) or 80) or width == 5:
        return _yolo(e, output, grid, "row", width)
    placed = _placed(e, output, grid)
    table = output.rows
    if table.size and within(table[:, 4], 1.0, 1.0):
        return _yolo(e, output, grid, "row", width)  # YOLOv6 writes an objectness of 1
    if placed == "unit" or (table.size and not within(table[:, 4:], 0.0, 1.0)):
        return _yolo(e, output, grid, "row", width) if placed != "raw" else None
    labels, named = e.labels(width - 5)
    decoded = placed == "pixels"
    said = (
        f"took {output} as YOLOX's, because {output.inner[0]} is the number of cells of {grid.said(e)} and there are "
        f"5 + {width - 5} values each; boxes are "
        + ("in pixels of the input" if decoded else "relative to their cells, since they stay near 0")
    )
    post = YoloxPostprocess(kind="yolox", output=output.name, strides=grid.strides, decoded=decoded)
    return Reading(post, labels, YOLOX, (said, named))


def _yolo(e: Evidence, output: Output, grid: Grid | None, box_per: Literal["row", "column"], width: int) -> Reading:
    table = _table(output, box_per)
    plain = width - 4 in (len(e.named_classes) or 80, 1)
    with_objectness = box_per == "row" and grid is not None and (grid.anchors == 3 or not plain)
    first = 4 + with_objectness
    classes = _classes(e, width - first)
    scores = table[:, 4 : first + classes]
    activation: Literal["none", "sigmoid"] = "none" if within(scores, 0.0, 1.0) or not table.size else "sigmoid"
    coordinates: Literal["pixels", "unit"] = "unit" if within(table[:, :4], -2.0, 2.0) else "pixels"
    labels, named = e.labels(classes)
    rest = width - first - classes
    boxes = output.inner[1 if box_per == "column" else 0]
    said = (
        f"took {output} as {boxes} boxes of {first} + {classes} values, in the manner of "
        + ("YOLOv5" if with_objectness else "YOLOv8")
        + (f", because {boxes} is the number of cells of {grid.said(e)}" if grid else "")
        + (f" and {rest} that are skipped" if rest else "")
        + (", scores in [0, 1]" if activation == "none" else ", scores to go through sigmoid")
        + (", boxes in pixels of the input" if coordinates == "pixels" else ", boxes in 0 … 1")
    )
    post = YoloPostprocess(
        kind="yolo",
        output=output.name,
        box_per=box_per,
        objectness=with_objectness,
        activation=activation,
        coordinates=coordinates,
    )
    return Reading(post, labels, ULTRALYTICS, (said, named))


def _classes(e: Evidence, columns: int) -> int:
    """How many of the columns behind the box are scores; the others are masks, key points or an angle."""
    named = len(e.named_classes)
    if 0 < named <= columns:
        return named
    prototypes = any(len(o.shape) == 4 and o.shape[1] == _MASKS for o in e.outputs)
    if prototypes and columns > _MASKS:
        return columns - _MASKS
    return 1 if columns == _POSE_ROWS - 4 else columns


def _table(output: Output, box_per: Literal["row", "column"]) -> npt.NDArray[np.float64]:
    """(boxes of all samples, values)."""
    if box_per == "row" or not output.samples:
        return output.rows
    return np.concatenate([sample.reshape(sample.shape[-2:]).T for sample in output.samples]).astype(np.float64)


def _placed(e: Evidence, output: Output, grid: Grid) -> Literal["pixels", "unit", "raw"]:
    """Whether centres lie where their cells are, in pixels or in 0 … 1, or are only offsets from them."""
    if not output.samples:
        return "raw"
    cells = grid_cells(grid.strides, e.width, e.height)
    centres = (cells[:, :2] + 0.5) * cells[:, 2:]
    size = np.array([e.width, e.height])
    found = output.samples[0].reshape(len(cells), -1)[:, :2].astype(np.float64)

    def off(pixels: npt.NDArray[np.float64]) -> float:
        return float(np.median(np.abs(pixels - centres) / cells[:, 2:]))

    if off(found) < _NEAR:
        return "pixels"
    return "unit" if off(found * size) < _NEAR else "raw"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
