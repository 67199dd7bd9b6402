"""Owns calibrating a table's plane model for frames that build on others. Codes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.fit import by_frequency_of
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.planes.fit import fit_plane_model
from splitmesh.codec.planes.model import PlaneExample, PlaneModel
from splitmesh.codec.temporal.encoder import choose
from splitmesh.codec.temporal.state import Reference
from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]

FIT_AT: Final = ((72, 1), (80, 3), (88, 1), (96, 3), (104, 1))
"""What the model is fitted to: useful levels, an octave of the step apart, each with how many frames before a frame
the one is that it builds on."""


def fit_temporal_model(table: CompactTable, sequences: Sequence[Mapping[str, F32]]) -> PlaneModel:
    """The plane model for residuals, of real ones. Each sequence: wire name → (N, …) float32, N consecutive frames.

    Where every frame had better stand alone it is the table's own. Deterministic. Raises CodecError when no sequence
    has two frames, and for features that `table` can't hold.
    """
    if not any(len(feature) > 1 for sequence in sequences for feature in sequence.values()):
        raise CodecError("a temporal model is fitted to sequences of at least two frames")
    examples = [
        example
        for sequence in sequences
        for level, lag in FIT_AT
        for example in _examples(table, sequence, level, lag)
    ]
    return fit_plane_model(examples, unlinked=by_frequency_of(table.tensors)) if examples else table.model


def _examples(table: CompactTable, sequence: Mapping[str, F32], level: int, lag: int) -> list[PlaneExample]:
    examples: list[PlaneExample] = []
    frames: list[Reference] = []
    for i in range(len(next(iter(sequence.values())))):
        tensors = {name: feature[i : i + 1] for name, feature in sequence.items()}
        chosen = choose(table, tensors, level, frames[max(i - lag, 0)] if i else None)
        frames.append(chosen.frame(i))
        if not chosen.key:
            examples += [
                PlaneExample(symbols, layout.scale, layout.context, at)
                for at, (symbols, layout) in enumerate(zip(chosen.symbols, chosen.layouts, strict=True))
            ]
    return examples
