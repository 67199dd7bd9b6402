"""Owns where a table's components lie in a picture, and what a pixel of it is worth. Encodes no video."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.intra import kept_scale
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.compact.transform import UNIT, step_of
from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

GREY: Final = 128
MAX_QP: Final = 51
_REACH: Final = 4.0 / 127
"""Units per pixel, of the widest component's mean magnitude: what is four times as far out is clipped."""
_ASPECT: Final = 4
_LEAST_SIDE_PX: Final = 64


class Tiling:
    """Where each component of a table lies in the picture, at one level."""

    def __init__(self, table: CompactTable, level: int) -> None:
        self.table = table
        self.level = level
        self._grids: list[tuple[int, int, int]] = []
        for tensor in table.tensors:
            kept = len(kept_scale(tensor, level))
            columns = min(kept, math.ceil(math.sqrt(_ASPECT * kept * tensor.height / tensor.width)))
            self._grids.append((kept, columns, -(-kept // columns) if kept else 0))
        sizes = [(g[2] * t.height, g[1] * t.width) for g, t in zip(self._grids, table.tensors, strict=True)]
        even = [max(_LEAST_SIDE_PX, side + side % 2) for side in (sum(h for h, _ in sizes), max(w for _, w in sizes))]
        self.height, self.width = even

    def quantiser(self) -> int:
        """0 … 51: the one whose step, with a pixel that is wide enough, is that of the level."""
        step = step_of(self.level) / UNIT
        return min(MAX_QP, max(0, math.floor(4 + 6 * math.log2(step / self._least_pixel()))))

    def pixel(self, qp: int) -> float:
        """Units per pixel. The step of H.264 and H.265 is 2^((qp − 4)/6) pixels (ITU-T H.264, table 8-15)."""
        return max(self._least_pixel(), step_of(self.level) / UNIT / 2 ** ((qp - 4) / 6))

    def _least_pixel(self) -> float:
        return max(1.0, max(float(t.spread.max()) for t in self.table.tensors)) / UNIT * _REACH

    def picture(self, tensors: Mapping[str, F32], pixel: float) -> U8:
        """(height, width) uint8 of the tensors' components; grey where there is none. Raises CodecError."""
        if tensors.keys() != {tensor.name for tensor in self.table.tensors}:
            raise CodecError(f"tensors {sorted(tensors)} are not the table's")
        picture: U8 = np.full((self.height, self.width), GREY, np.uint8)
        top = 0
        for tensor, (kept, columns, rows) in zip(self.table.tensors, self._grids, strict=True):
            z = tensor.forward(tensors[tensor.name], kept)
            z *= np.float32(1 / pixel)
            z += np.float32(GREY + 0.5)
            grid: U8 = np.full((rows * columns, tensor.height, tensor.width), GREY, np.uint8)
            grid[:kept] = np.clip(z, 0, 255)
            tiles = grid.reshape(rows, columns, tensor.height, tensor.width).transpose(0, 2, 1, 3)
            bottom = top + rows * tensor.height
            picture[top:bottom, : columns * tensor.width] = tiles.reshape(bottom - top, columns * tensor.width)
            top = bottom
        return picture

    def tensors(self, picture: U8, pixel: float) -> dict[str, F32]:
        """What `picture` made a picture of."""
        found = {}
        top = 0
        for tensor, (kept, columns, rows) in zip(self.table.tensors, self._grids, strict=True):
            bottom = top + rows * tensor.height
            tiles = picture[top:bottom, : columns * tensor.width]
            grid = tiles.reshape(rows, tensor.height, columns, tensor.width).transpose(0, 2, 1, 3)
            z = grid.reshape(rows * columns, tensor.height, tensor.width)[:kept].astype(np.float32)
            z -= np.float32(GREY)
            z *= np.float32(pixel)
            found[tensor.name] = tensor.inverse(z)
            top = bottom
        return found
