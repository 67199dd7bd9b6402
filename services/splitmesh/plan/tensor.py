"""Owns the step from a picture at model size to the model's input tensor, as the manifest defines it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError
from splitmesh.plan.manifest import Manifest


def picture_tensor(manifest: Manifest, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 RGB at the manifest's size → (1, 3, H, W) float32, pixel * scale + offset, C-contiguous.

    Scale and offset apply to the tensor's channel order (`color`). Raises FrameShapeError for any other picture.
    """
    wanted = (manifest.height, manifest.width, 3)
    if rgb.shape != wanted or rgb.dtype != np.uint8:
        raise FrameShapeError(f"{manifest.name} takes {wanted} uint8 pictures, not {rgb.shape} {rgb.dtype}")
    order = rgb if manifest.color == "RGB" else rgb[..., ::-1]
    tensor = np.empty((1, 3, manifest.height, manifest.width), np.float32)
    scale = np.asarray(manifest.scale, np.float32)[:, None, None]
    np.multiply(order.transpose(2, 0, 1), scale, out=tensor[0])
    tensor[0] += np.asarray(manifest.offset, np.float32)[:, None, None]
    return tensor


def luma_thumbnail(rgb: npt.NDArray[np.uint8], *, height: int = 36, width: int = 64) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB → (height, width) uint8 luma (ITU-R BT.601), each pixel the mean of its area."""
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.shape[0] < height or rgb.shape[1] < width:
        raise FrameShapeError(f"a {height}x{width} thumbnail needs a larger (H, W, 3) picture than {rgb.shape}")
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    rows = np.arange(height) * rgb.shape[0] // height
    columns = np.arange(width) * rgb.shape[1] // width
    sums = np.add.reduceat(np.add.reduceat(luma, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, rgb.shape[0]]), np.diff([*columns, rgb.shape[1]]))
    means: npt.NDArray[np.uint8] = np.round(sums / counts).astype(np.uint8)
    return means
