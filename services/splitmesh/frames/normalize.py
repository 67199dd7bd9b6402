"""Owns the step from model-sized RGB pixels to the model's input tensor: numpy only, the same on edge and worker."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import F32

U8 = npt.NDArray[np.uint8]
_SOURCE_CHANNEL = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}


class InputSpec(Protocol):
    """What a manifest says of the model's input; `tensor = pixel * scale + offset` per tensor channel."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def color(self) -> str: ...
    @property
    def scale(self) -> tuple[float, float, float]: ...
    @property
    def offset(self) -> tuple[float, float, float]: ...


class Normalizer:
    """Turns (height, width, 3) uint8 RGB into (1, 3, height, width) float32 in the tensor's channel order.

    `color`: the tensor's channel order, "RGB" or "BGR". `scale`, `offset`: per tensor channel, applied to pixels
    in [0, 255]. Stateless between calls, so threads may share one. Raises FrameShapeError for an unknown `color`.
    """

    def __init__(
        self,
        width: int,
        height: int,
        color: str = "RGB",
        scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
        offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        if color not in _SOURCE_CHANNEL:
            raise FrameShapeError(f"colour order {color!r} is neither RGB nor BGR")
        self.width = width
        self.height = height
        self._channels = tuple(
            (source, np.float32(s), np.float32(o))
            for source, s, o in zip(_SOURCE_CHANNEL[color], scale, offset, strict=True)
        )

    @staticmethod
    def from_manifest(manifest: InputSpec) -> Normalizer:
        return Normalizer(manifest.width, manifest.height, manifest.color, manifest.scale, manifest.offset)

    def normalize(self, rgb: U8) -> F32:
        """A new (1, 3, height, width) tensor. Raises FrameShapeError unless `rgb` is (height, width, 3) uint8."""
        tensor = np.empty((1, 3, self.height, self.width), np.float32)
        self.into(rgb, tensor)
        return tensor

    def into(self, rgb: U8, tensor: F32, *, scratch: U8 | None = None) -> None:
        """As `normalize`, into a C-contiguous `tensor`; `scratch` (height, width) uint8 saves an allocation.

        De-interleaving bytes first makes the arithmetic run on contiguous rows: measured 0.21 ms for 300×300,
        against 0.29 ms for strided arithmetic and 0.40 ms for a 256-entry table per channel.
        """
        if rgb.shape != (self.height, self.width, 3) or rgb.dtype != np.uint8:
            raise FrameShapeError(
                f"expected pixels ({self.height}, {self.width}, 3) uint8, got {rgb.shape} {rgb.dtype}"
            )
        if tensor.shape != (1, 3, self.height, self.width) or tensor.dtype != np.float32:
            raise FrameShapeError(
                f"expected a tensor (1, 3, {self.height}, {self.width}) float32, got {tensor.shape} {tensor.dtype}"
            )
        plane = np.empty((self.height, self.width), np.uint8) if scratch is None else scratch
        for out, (source, scale, offset) in zip(tensor[0], self._channels, strict=True):
            np.copyto(plane, rgb[:, :, source])
            np.multiply(plane, scale, out=out)
            if offset:
                np.add(out, offset, out=out)
