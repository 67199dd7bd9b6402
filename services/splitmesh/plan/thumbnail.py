"""Owns the small luma picture that motion is measured on, made from a model-sized picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError


def luma_thumbnail(rgb: npt.NDArray[np.uint8], *, height: int = 36, width: int = 64) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB → (height, width) uint8 luma (ITU-R BT.601), each pixel the mean of its area.

    A picture that is smaller than that keeps its size. Raises FrameShapeError for any other array.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise FrameShapeError(f"a thumbnail is made of an (H, W, 3) uint8 picture, not {rgb.shape} {rgb.dtype}")
    height, width = min(height, rgb.shape[0]), min(width, rgb.shape[1])
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    rows = np.arange(height) * rgb.shape[0] // height
    columns = np.arange(width) * rgb.shape[1] // width
    sums = np.add.reduceat(np.add.reduceat(luma, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, rgb.shape[0]]), np.diff([*columns, rgb.shape[1]]))
    means: npt.NDArray[np.uint8] = np.round(sums / counts).astype(np.uint8)
    return means
