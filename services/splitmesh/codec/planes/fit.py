"""Owns calibrating a plane model: the coder learns from examples, and what it then knows is the model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np

from splitmesh.codec.planes.coding import joined, layout_of
from splitmesh.codec.planes.kernel import KERNEL, Kernel
from splitmesh.codec.planes.model import PlaneExample, PlaneModel, blank_state
from splitmesh.codec.planes.taps import TAPS, fit_taps
from splitmesh.errors import CodecError

_SCATTER: Final = 2_654_435_761
"""Knuth's multiplier: neighbouring numbers land far apart."""


def fit_plane_model(
    examples: Sequence[PlaneExample], *, unlinked: Collection[int] = (), kernel: Kernel = KERNEL
) -> PlaneModel:
    """A model calibrated on `examples`, at least one of each tensor of the cut, best of all levels in use.

    unlinked: tensors whose elements are not predicted linearly from others, which takes long to fit to many planes.
    Deterministic: the same examples give the same bytes, with either kernel. Raises CodecError without examples, or
    for shapes and dtypes that `encode_planes` refuses.
    """
    if not examples:
        raise CodecError("a plane model is fitted to at least one example")
    planes = [1] * (1 + max(example.tensor for example in examples))
    for example in examples:
        planes[example.tensor] = max(planes[example.tensor], len(example.planes))
    taps = [
        np.zeros((count, TAPS, 4), np.int16)
        if tensor in unlinked
        else fit_taps([(each.planes, each.context) for each in examples if each.tensor == tensor], count)
        for tensor, count in enumerate(planes)
    ]
    model = PlaneModel(tuple(planes), np.concatenate(taps), blank_state(sum(planes)))
    for at in sorted(range(len(examples)), key=lambda i: i * _SCATTER & 0xFFFFFFFF):
        planes_, scale, context, tensor = examples[at]
        layout = layout_of([planes_.shape], model, [scale], [context], first=tensor)
        values, scales, contexts = joined([planes_]), joined([scale]), joined([context])
        kernel.encode(model.state, model.slots, model.taps, layout, values, scales, contexts)
    return PlaneModel.from_bytes(model.to_bytes())
