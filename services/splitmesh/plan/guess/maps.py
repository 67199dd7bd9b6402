"""Owns guessing outputs that have a place in the picture: heatmaps of centres and class maps."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import numpy.typing as npt

from splitmesh.plan.guess.evidence import Evidence, Output, Reading, thinned
from splitmesh.plan.guess.feed import RAW, Feed
from splitmesh.plan.manifest_kinds import CenternetPostprocess, SegmentationPostprocess

_SEGMENTED = frozenset({2, 3, 12, 19, 21, 22, 32, 33, 59, 60, 66, 80, 91, 92, 104, 133, 150, 151, 171, 172, 182, 183})
"""How many classes data sets for segmentation have. Maps coarser than a quarter of the picture need one of these."""
_MOST_CLASSES = 256

_FINEST = 0.8
"""Picture's side ÷ map's side. What is larger than the picture is a picture itself, as super-resolution gives."""
_NEGATIVE = 0.1
"""Share of negative sizes beyond which they are no sizes."""
_CENTERFACE = Feed("CenterFace", RAW)

Layout = Literal["NCHW", "NHWC"]


def read_centernet(e: Evidence) -> Reading | None:
    """A heatmap, sizes, and offsets if any, on one grid."""
    maps = [(o, form) for o in e.outputs if (form := _planes(o, e)) is not None]
    for heat, (layout, classes, rows, columns) in maps:
        pairs = [o for o, form in maps if o is not heat and form == (layout, 2, rows, columns)]
        if not pairs or re.search(r"wh|size|reg|off|hps|hp_", heat.name.lower()):
            continue
        size = next((o for o in pairs if re.search(r"wh|size|dim", o.name.lower())), None)
        offset = next((o for o in pairs if re.search(r"off|reg", o.name.lower())), None)
        if size is None and offset is None and len(pairs) == 2:
            offset, size = sorted(pairs, key=lambda o: float(np.abs(o.numbers).mean()) if o.samples else 0.0)
        if size is None or (offset is None and not re.search(r"hm|heat|cent", heat.name.lower())):
            continue
        activated = heat.is_unit or "Sigmoid" in heat.closing
        labels, named = e.labels(classes)
        said = (
            f"took {heat} as a heatmap of centres, {size} as sizes in cells"
            + (f" and {offset} as offsets" if offset else "")
            + ", because they share one grid and two have two channels"
            + ("" if activated else "; the heatmap is to go through sigmoid, since it leaves [0, 1]")
        )
        landmarks = classes == 1 and any(form == (layout, 10, rows, columns) for _, form in maps)
        logarithms = landmarks or (bool(size.samples) and float((size.numbers < 0).mean()) > _NEGATIVE)
        if landmarks:
            said += "; ten channels of landmarks are there too, so sizes are logarithms and y comes first: CenterFace"
        elif logarithms:
            said += "; sizes are taken to be logarithms, since many are negative"
        post = CenternetPostprocess(
            kind="centernet",
            heatmap=heat.name,
            size=size.name,
            offset=offset.name if offset else None,
            activation="none" if activated else "sigmoid",
            size_activation="exp" if logarithms else "none",
            order="yx" if landmarks else "xy",
            layout=layout,
        )
        return Reading(post, labels, _CENTERFACE if landmarks else e.usual, (said, named))
    return None


def read_segmentation(e: Evidence) -> Reading | None:
    """A class per pixel: the first output, as class indices, or as scores of a likely number of classes."""
    output = e.outputs[0]
    task = e.facts.metadata.get("task", "")
    if task in ("segment", "pose", "detect"):  # Ultralytics' are detectors with something on top
        return None
    return _label_map(e, output) or _score_maps(e, output)


def _label_map(e: Evidence, output: Output) -> Reading | None:
    sizes = [n for n in output.shape if n != 1]
    if len(output.shape) < 3 or len(sizes) != 2 or not output.is_whole:
        return None
    if not _covers(sizes[0], sizes[1], e) or not output.samples or (output.port.is_float and not _argmax(output)):
        return None
    highest = int(output.numbers.max())
    count = len(e.named_classes) if len(e.named_classes) > highest else 21 if highest < 21 else highest + 1
    labels, named = e.labels(count)
    post = SegmentationPostprocess(kind="segmentation", output=output.name, holds="labels")
    said = f"took {output} as a map of class indices, because it holds whole numbers as large as a picture"
    return Reading(post, labels, e.usual, (said, f"{named}; the file does not say how many classes there are"))


def _score_maps(e: Evidence, output: Output) -> Reading | None:
    form = _planes(output, e)
    if form is None:
        return None
    layout, classes, rows, columns = form
    whole = rows * 2 > e.height and columns * 2 > e.width
    if classes == 1:
        return _one_plane(e, output, layout) if whole else None
    rows_of = _by_class(output, layout)
    probable = rows_of.size > 0 and bool((np.abs(rows_of.sum(axis=1) - 1) < 1e-2).all()) and output.is_unit
    if not (
        probable or (whole and 3 < classes <= _MOST_CLASSES) or (classes in _SEGMENTED - {3} and rows * 8 >= e.height)
    ):
        return None
    labels, named = e.labels(classes)
    post = SegmentationPostprocess(kind="segmentation", output=output.name, layout=layout)
    why = "they sum to 1" if probable else f"there are {classes} of them at {columns}×{rows}"
    return Reading(post, labels, e.usual, (f"took {output} as a score per class and pixel, because {why}", named))


def _one_plane(e: Evidence, output: Output, layout: Layout) -> Reading | None:
    """A mask, if it ends in sigmoid or takes both signs; other single planes may be depths."""
    numbers = output.numbers
    activated = "Sigmoid" in output.closing or ("Clip" in output.closing and output.is_unit)
    if not activated and not (numbers.size and numbers.min() < 0 < numbers.max()):
        return None
    post = SegmentationPostprocess(
        kind="segmentation", output=output.name, layout=layout, activation="none" if activated else "sigmoid"
    )
    why = "it ends in sigmoid" if activated else "it takes both signs, as before a sigmoid"
    labels, named = e.labels(2)
    said = f"took {output} as a mask of one class, because it is as large as the picture and {why}"
    return Reading(post, labels, e.usual, (said, named))


def _planes(output: Output, e: Evidence) -> tuple[Layout, int, int, int] | None:
    """(layout, channels, rows, columns) of an output with a place in the picture, else None."""
    if len(output.shape) != 4 or None in output.shape or output.shape[0] != 1 or not output.port.is_float:
        return None
    _, a, b, c = (n or 0 for n in output.shape)
    if _covers(b, c, e) and (a <= c or not _covers(a, b, e)):
        return "NCHW", a, b, c
    return ("NHWC", c, a, b) if _covers(a, b, e) else None


def _covers(rows: int | None, columns: int | None, e: Evidence) -> bool:
    """A map of this size has the picture's proportions, is not coarser than a sixteenth and no finer."""
    if not rows or not columns or rows < 4 or columns < 4:
        return False
    down, across = e.height / rows, e.width / columns
    return _FINEST <= max(down, across) <= 16.5 and abs(down - across) <= 0.15 * max(down, across)


def _argmax(output: Output) -> bool:
    return "ArgMax" in output.closing


def _by_class(output: Output, layout: Layout) -> npt.NDArray[np.float64]:
    """(pixels of all samples, C)."""
    if not output.samples:
        return np.zeros((0, 1))
    axis = 1 if layout == "NCHW" else 3
    return np.concatenate([thinned(np.moveaxis(s, axis, -1).reshape(-1, s.shape[axis])) for s in output.samples])
