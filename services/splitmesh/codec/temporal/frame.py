"""Owns what both ends do alike with one frame: lay it out for the plane coder, and follow it. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.intra import kept_scale
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.compact.transform import TensorTable, step_of
from splitmesh.codec.planes.model import PlaneModel
from splitmesh.codec.temporal.predict import moved, residual_scale
from splitmesh.codec.temporal.state import Planes, Reference, of_keyframe, of_residual

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
U16 = npt.NDArray[np.uint16]

CODEC: Final = "temporal"
KEY: Final = 1
"""Flag: the frame stands alone."""
MOTION: Final = 2
"""Flag: movements of blocks precede the residuals."""


@dataclass(frozen=True, eq=False)
class Layout:
    """How one tensor of a frame is coded: what the plane coder is told, and what the symbols are added to."""

    tensor: TensorTable
    step: int
    scale: U16
    """(K,) expected magnitudes in 1/16 of a step."""
    context: I16 | None = None
    """(K, H, W) the reference's own residual; None: a keyframe."""
    predicted: I32 | None = None
    """(all components, H, W) in 1/256 of a unit; None: a keyframe."""
    earlier: Planes | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.scale), self.tensor.height, self.tensor.width

    def follow(self, symbols: I16) -> Planes:
        """What is remembered of the tensor once its symbols (K, H, W) are known."""
        if self.predicted is None or self.earlier is None:
            return of_keyframe(self.tensor, symbols, self.step)
        return of_residual(self.predicted, self.earlier, symbols, self.step)


def alone(table: CompactTable, level: int) -> list[Layout]:
    """Of a keyframe: as the "compact" codec would code it."""
    return [Layout(tensor, step_of(level), kept_scale(tensor, level)) for tensor in table.tensors]


def following(table: CompactTable, level: int, reference: Reference, motions: Sequence[I16 | None]) -> list[Layout]:
    """Of a frame that builds on `reference`, each tensor's blocks moved by `motions` (None: not at all)."""
    step = step_of(level)
    layouts = []
    for tensor, earlier, motion in zip(table.tensors, reference.tensors, motions, strict=True):
        kept = len(kept_scale(tensor, level))
        predicted = earlier.values if motion is None else moved(earlier.values, motion)
        scale = residual_scale(earlier, step, kept)
        layouts.append(Layout(tensor, step, scale, earlier.residual[:kept], predicted, earlier))
    return layouts


def model_of(table: CompactTable, *, key: bool) -> PlaneModel:
    """The table's model for keyframes, or for what builds on a reference."""
    return table.model if key or table.temporal_model is None else table.temporal_model
