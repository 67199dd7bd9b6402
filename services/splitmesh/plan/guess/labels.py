"""Owns the names of classes that a guess can know: from a file's metadata, or by how many there are."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

METADATA_KEYS = ("names", "labels", "classes", "class_names", "categories")

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
CITYSCAPES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
BACKGROUND = "background"


def labels_from(said: Any) -> tuple[str, ...]:
    """The classes that a metadata entry lists, or maps from 0, 1, …; none if it does neither."""
    if isinstance(said, dict):
        by_key = {str(key): name for key, name in said.items()}
        said = [by_key.get(str(i)) for i in range(len(by_key))]
    if isinstance(said, list | tuple) and all(isinstance(name, str) for name in said):
        return tuple(said)
    return ()


def labels_by_count(count: int) -> tuple[tuple[str, ...], str]:
    """Names for `count` classes and which data set's they are; "#i" and "" where no data set is that large."""
    match count:
        case 80:
            return tuple(n for n in _shipped("coco-ssdlite")[1:] if not n.startswith("unused-")), "COCO's 80"
        case 90:
            return _shipped("coco-ssdlite")[1:], "COCO's, by category id less one"
        case 91:
            return _shipped("coco-ssdlite"), "COCO's, by category id"
        case 20:
            return VOC, "Pascal VOC's 20"
        case 21:
            return (BACKGROUND, *VOC), "Pascal VOC's 20 after a background"
        case 19:
            return CITYSCAPES, "Cityscapes' 19"
        case 1000:
            return _shipped("mobilenet-v2"), "ImageNet's 1000"
        case 1001:
            return (BACKGROUND, *_shipped("mobilenet-v2")), "ImageNet's 1000 after a background"
    return tuple(f"#{i}" for i in range(count)), ""


@cache
def _shipped(model: str) -> tuple[str, ...]:
    """The labels of a built-in model, from its manifest in this package."""
    text = resources.files("splitmesh").joinpath("models", "data", f"{model}.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)["labels"])
