"""Owns where a model may be cut: a walk over the graph's frontiers. Decides from the graph alone, never from a clock.

Both ends of the mesh must come to the same cuts with the same names, whatever machine they run on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto, TensorProto

from splitmesh.plan.graph.view import GraphView

MAX_TENSORS = 3
MAX_ELEMENTS_RATIO = 2.0
CHOSEN = 4
AT_LEAST = 3
LEAST_GAP = 0.04
"""Head shares closer than this are the same cut for the policy."""
USEFUL_SHARE = (0.05, 0.9)
"""Below: the head is mere re-arrangement of the picture. Above: one may as well finish the model."""
_FREE_OPS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Clip", "Relu", "PRelu", "LeakyRelu", "Elu", "Sigmoid", "Tanh"}
    | {"HardSigmoid", "HardSwish", "Mish", "BatchNormalization"}
)
"""Steps per element, which the runtime fuses into the convolution before them."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A set of tensors that separates the model's input from all its outputs."""

    name: str
    """`n<node index>-<C>x<H>x<W>` (largest tensor, then `-<how many>t` if there are several): `[a-z0-9-]`."""
    tensors: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    """(1, C, H, W) of each tensor, float32."""
    elements: int
    """Sum over all tensors."""
    node_index: int
    """The head ends with this node of the file's node list."""
    head_share: float = 0.0
    """Static estimate of the head's share of the model's work, [0, 1]."""
    input_ratio: float = 0.0
    """Elements over the elements of the model's input."""

    @property
    def useful(self) -> bool:
        """Worth its place: does real work, leaves real work, and is no larger than the picture itself."""
        return USEFUL_SHARE[0] <= self.head_share <= USEFUL_SHARE[1] and self.input_ratio <= 1.0


def candidate_cuts(model: ModelProto) -> list[Cut]:
    """All sensible cuts in topological order.

    A frontier after node i is legal if it has at most three live tensors, all float32 (1, C, H, W), together at most
    twice the input's elements; none of them is an input or an output of the model. Bodies of If, Loop and Scan are
    never cut: such a node is one step. Of the cuts with equal shapes only the first block end stays; see `_prune`.
    Raises ModelError if shapes can't be inferred.
    """
    view = GraphView(model)
    total = sum(view.cost(i) for i in range(len(view.nodes))) or 1.0
    pixels = sum(view.tensors[name].elements for name in view.inputs)
    boundary = set(view.inputs) | set(view.outputs)
    frontier: dict[str, None] = dict.fromkeys(view.inputs)
    legal: list[Cut] = []
    spent = 0.0
    for index in range(len(view.nodes)):
        spent += view.cost(index)
        if not view.live[index]:
            continue
        frontier.update(dict.fromkeys(view.live[index]))
        for name in [n for n in frontier if view.last_read.get(n, -1) <= index]:
            del frontier[name]
        if 0 < len(frontier) <= MAX_TENSORS and not boundary.intersection(frontier):
            cut = _cut(view, tuple(frontier), index, spent / total, pixels)
            if cut is not None and cut.input_ratio <= MAX_ELEMENTS_RATIO:
                legal.append(cut)
    return _prune(view, legal)


def choose_cuts(candidates: Sequence[Cut], count: int = CHOSEN) -> list[Cut]:
    """Pick at most `count` cuts that differ in head share, small ones first. Depends on the graph only.

    The first is the smallest (ties: the earliest). Each further one is the one that adds most: the gap in head share
    to the nearest chosen cut or to "whole model here" (share 1), over the square root of its size. Early cuts serve
    a slow edge, small ones a slow link, late ones a slow worker. Cuts that hardly differ from a chosen one, and then
    those that are not `useful`, only fill up to three.
    """
    chosen: list[Cut] = []
    useful = [c for c in candidates if c.useful]
    for pool, limit in ((useful, count), (list(candidates), min(AT_LEAST, count))):
        rest = [c for c in pool if c not in chosen]
        while rest and len(chosen) < limit:
            best = max(rest, key=lambda c: (c.useful, _gain(c, chosen), -c.node_index))
            rest.remove(best)
            if pool is useful and _gap(best, chosen) < LEAST_GAP:
                continue
            chosen.append(best)
    return sorted(chosen, key=lambda c: c.node_index)


def _gain(cut: Cut, chosen: Sequence[Cut]) -> float:
    if not chosen:
        return 1.0 / float(cut.elements)
    return min(_gap(cut, chosen), 1.0 - cut.head_share) / math.sqrt(cut.elements)


def _gap(cut: Cut, chosen: Sequence[Cut]) -> float:
    return min((abs(cut.head_share - other.head_share) for other in chosen), default=1.0)


def _cut(view: GraphView, tensors: tuple[str, ...], index: int, share: float, pixels: int) -> Cut | None:
    """A cut through `tensors`, or None if one of them can't be shipped."""
    shapes: list[tuple[int, ...]] = []
    for name in tensors:
        info = view.tensors.get(name)
        if info is None or info.dtype != TensorProto.FLOAT or info.shape is None:
            return None
        if len(info.shape) != 4 or info.shape[0] != 1:
            return None
        shapes.append(info.shape)
    elements = sum(view.tensors[name].elements for name in tensors)
    largest = max(shapes, key=lambda s: s[1] * s[2] * s[3])
    several = f"-{len(tensors)}t" if len(tensors) > 1 else ""
    label = f"n{index}-{'x'.join(str(d) for d in largest[1:])}{several}"
    return Cut(label, tensors, tuple(shapes), elements, index, share, elements / max(pixels, 1))


def _prune(view: GraphView, legal: Sequence[Cut]) -> list[Cut]:
    """Keep one cut per tuple of shapes: the first one, moved past the cheap per-element steps that follow it.

    A cut before a bias or an activation would break the fusion with the convolution that feeds it, and the tensor
    after it codes smaller. Later cuts of the same shapes send as much and cost more head. Several tensors are worth
    it only where no single tensor that comes later, or as early, is as small.
    """
    kept: dict[tuple[tuple[int, ...], ...], Cut] = {}
    open_run: set[tuple[tuple[int, ...], ...]] = set()
    for cut in legal:
        known = kept.get(cut.shapes)
        if known is None:
            kept[cut.shapes] = cut
            open_run.add(cut.shapes)
        elif cut.shapes in open_run and _only_cheap(view, known.node_index, cut.node_index):
            kept[cut.shapes] = cut
        else:
            open_run.discard(cut.shapes)
    singles = [c for c in kept.values() if len(c.tensors) == 1]
    return [
        cut
        for cut in sorted(kept.values(), key=lambda c: c.node_index)
        if len(cut.tensors) == 1
        or not any(s.elements <= cut.elements and s.node_index <= cut.node_index for s in singles)
    ]


def _only_cheap(view: GraphView, after: int, upto: int) -> bool:
    return all(view.nodes[i].op_type in _FREE_OPS for i in range(after + 1, upto + 1) if view.live[i])
