"""Owns the usual ways to feed a model, as values: colour, range of numbers, fit. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Range:
    """tensor = pixel [0 … 255] × scale + offset, per channel in the tensor's order."""

    scale: Triple
    offset: Triple
    said: str

    @property
    def is_even(self) -> bool:
        """All channels alike."""
        return len(set(self.scale)) == 1 and len(set(self.offset)) == 1


def _even(scale: float, offset: float, said: str) -> Range:
    return Range((scale, scale, scale), (offset, offset, offset), said)


def _standard(mean: Triple, deviation: Triple, said: str) -> Range:
    scale = (1 / (255 * deviation[0]), 1 / (255 * deviation[1]), 1 / (255 * deviation[2]))
    return Range(scale, (-mean[0] / deviation[0], -mean[1] / deviation[1], -mean[2] / deviation[2]), said)


RAW = _even(1.0, 0.0, "pixels 0 … 255 as they are")
UNIT = _even(1 / 255, 0.0, "pixel/255")
SIGNED = _even(1 / 127.5, -1.0, "pixel/127.5 - 1")
CENTRED = _even(1.0, -128.0, "pixel - 128")
FEW = _even(1 / 255, 0.0, "pixel/255, that is 0 or 1 in whole numbers")
STANDARD = _standard(
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "pixel/255 less ImageNet's mean over its deviation"
)
CAFFE_MEAN = Range((1.0, 1.0, 1.0), (-104.0, -117.0, -123.0), "pixel less 104 117 123")


@dataclass(frozen=True, slots=True)
class Feed:
    """How models of one family are usually fed."""

    family: str
    range: Range
    color: Literal["RGB", "BGR"] = "RGB"
    fit: Literal["stretch", "letterbox"] = "stretch"
    pad_value: int = 114


PLAIN = Feed("models of unknown origin", UNIT)
TORCH = Feed("torchvision-like models", STANDARD)
TENSORFLOW = Feed("TensorFlow's models", SIGNED)
CAFFE = Feed("Caffe's models", CAFFE_MEAN, "BGR")
FACES = Feed("face embeddings", SIGNED)
ULTRALYTICS = Feed("YOLOv5 and later", UNIT, fit="letterbox")
PLAIN_CLASSIFIER = Feed("Ultralytics' classifiers", UNIT)
YOLOX = Feed("YOLOX", RAW, "BGR", "letterbox")
YUNET = Feed("YuNet", RAW, "BGR", "letterbox", 0)
