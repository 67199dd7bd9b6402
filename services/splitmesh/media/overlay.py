"""Owns how a class map looks over a picture: one colour per class, whatever the picture, and a legend of them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from splitmesh.frames.geometry import Mask
from splitmesh.frames.normalize import U8

Color = tuple[int, int, int]

_OPACITY = 0.5
_GOLDEN = 0.618033988749895
_NAMED = 6
_BACKGROUND = frozenset({"background", "__background__", "bg", "_background_"})


@lru_cache(maxsize=1024)
def class_color(label: int) -> Color:
    """RGB of a class: hues a golden section apart, so that neighbours in number differ most."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1.0, 0.55 + 0.4 * (label % 2), 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def is_background(label: int, labels: Sequence[str]) -> bool:
    """True for a class that is not painted: one called background, or class 0 where classes have no names."""
    return labels[label].lower() in _BACKGROUND if label < len(labels) else label == 0 and not labels


def paint(picture: U8, mask: Mask, labels: Sequence[str]) -> U8:
    """`picture` (H, W, 3) RGB under half-transparent colours of `mask` (H, W); background stays as it is."""
    found = np.bincount(mask.ravel())
    colors = np.zeros((len(found), 3), np.float32)
    opacity = np.zeros((len(found), 1), np.float32)
    for label in np.flatnonzero(found).tolist():
        if not is_background(label, labels):
            colors[label], opacity[label] = class_color(label), _OPACITY
    share = opacity[mask]
    painted: U8 = np.rint(picture * (1 - share) + colors[mask] * share).astype(np.uint8)
    return painted


def legend(mask: Mask, labels: Sequence[str]) -> list[tuple[str, Color]]:
    """Name and colour of the classes that cover most of `mask`, largest first, at most six."""
    counts = np.bincount(mask.ravel())
    ordered = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    painted = [label for label in ordered if not is_background(label, labels)]
    return [(labels[n] if n < len(labels) else f"#{n}", class_color(n)) for n in painted[:_NAMED]]
