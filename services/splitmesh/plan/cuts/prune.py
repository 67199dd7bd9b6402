"""Owns which of the legal frontiers are worth a look: one per kind, at a place where the runtime loses no fusion."""

from __future__ import annotations

import math
from collections.abc import Sequence

from splitmesh.plan.cuts.cut import Cut
from splitmesh.plan.graph.view import GraphView

SAME_SHAPES_GAP = 0.2
"""Head shares of cuts with equal shapes differ by this at least."""
BEFORE_POOL_GAP = 0.04
"""The same for the last cut before positions are averaged away: it codes much smaller than its shapes tell."""
LATE_GAP = 0.1
"""So much more work in the head than in that of any single tensor makes several a late cut."""
EARLIEST_SHARE = 0.05
"""A head that does less of the work than this is mere re-arrangement of the picture."""
LATEST_SHARE = 0.9
"""A head that does more of the work than this may as well finish the model."""
Shapes = tuple[tuple[int, ...], ...]
CHEAP_OPS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Clip", "Relu", "PRelu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Min", "Max"}
    | {"HardSigmoid", "HardSwish", "Mish", "Gelu", "BatchNormalization"}
    | {"Cast", "QuantizeLinear", "DequantizeLinear"}
)
"""Steps per element, which the runtime fuses into the convolution before them, and changes of type."""
INTEGERS = frozenset({"uint8", "int8"})


def prune(view: GraphView, legal: Sequence[Cut]) -> tuple[list[Cut], dict[int, str]]:
    """Keep one cut per set of shapes: the first one, moved past the cheap per-element steps that follow it.

    A cut before a bias or an activation would break the fusion with the convolution that feeds it, and the tensor
    after it codes smaller. For the same reason the move ends behind a QuantizeLinear if there is one: both halves of
    a QDQ model keep their fused integer kernels only if the 8-bit tensor itself crosses. Later cuts of the same
    shapes send as much and cost more head: only one that has a fifth of the work more in its head stays too, for a
    slow worker. Several tensors are worth it only where no single one that comes as early is as small, or where
    nothing single comes so late. Returns also why each of the others goes, by node index.
    """
    kept: list[Cut] = []
    stands_for: dict[int, list[tuple[Cut, str]]] = {}
    for run, later in _runs(view, legal):
        best = next((c for c in reversed(run) if all(t.dtype in INTEGERS for t in c.tensors)), run[-1])
        word = "the same in eight bits" if best is not run[-1] else "behind the cheap steps that follow"
        kept.append(best)
        stands_for[best.node_index] = [
            *((c, f"{best.name} is {word}") for c in run if c is not best),
            *((c, f"same shapes as {best.name}, which comes first") for c in later),
        ]
    singles = [c for c in kept if len(c.tensors) == 1]
    last = max((c.head_share for c in singles if c.head_share <= LATEST_SHARE), default=0.0)
    reasons: dict[int, str] = {}
    for cut in list(kept):
        better = bettered(cut, singles)
        others = stands_for[cut.node_index]
        if better is None or last + LATE_GAP <= cut.head_share <= LATEST_SHARE:
            reasons.update((c.node_index, why) for c, why in others)
        else:
            kept.remove(cut)
            why = f"{better.name} is one tensor, no larger and no later"
            reasons.update((c.node_index, why) for c in (cut, *(c for c, _ in others)))
    return kept, reasons


def bettered(cut: Cut, others: Sequence[Cut]) -> Cut | None:
    """The first single tensor among `others` that is as small as the several of `cut`, and as early."""
    if len(cut.tensors) == 1:
        return None
    real = (o for o in others if len(o.tensors) == 1 and o.head_share >= EARLIEST_SHARE)
    return next((o for o in real if o.node_index <= cut.node_index and o.elements <= cut.elements), None)


def last_before_pool(legal: Sequence[Cut]) -> Cut | None:
    """The last single tensor with positions, `LATEST_SHARE` at most, of a model that ends without any; else None."""
    flat = next((i for i, c in enumerate(legal) if _flat(c)), None)
    if flat is None or not all(_flat(c) for c in legal[flat:]):
        return None
    planes = [c for c in legal[:flat] if len(c.tensors) == 1 and c.head_share <= LATEST_SHARE]
    return planes[-1] if planes else None


def _flat(cut: Cut) -> bool:
    return all(math.prod(tensor.shape) == max(tensor.shape) for tensor in cut.tensors)


def shapes_of(cut: Cut) -> Shapes:
    """Wire shapes, whatever the order of the tensors."""
    return tuple(sorted(cut.shapes.values()))


def _runs(view: GraphView, legal: Sequence[Cut]) -> list[tuple[list[Cut], list[Cut]]]:
    """Cuts of equal shapes with nothing but cheap steps between them, and the later ones of these shapes that add
    too little work to be a run of their own."""
    found: list[tuple[list[Cut], list[Cut]]] = []
    latest: dict[Shapes, tuple[list[Cut], list[Cut]]] = {}
    last = last_before_pool(legal)
    for cut in legal:
        run, later = latest.get(shapes_of(cut), ([], []))
        if run and not later and _only_cheap(view, run[-1].node_index, cut.node_index):
            run.append(cut)
        elif not run or cut.head_share >= run[0].head_share + (BEFORE_POOL_GAP if cut is last else SAME_SHAPES_GAP):
            latest[shapes_of(cut)] = ([cut], [])
            found.append(latest[shapes_of(cut)])
        else:
            later.append(cut)
    return found


def _only_cheap(view: GraphView, after: int, upto: int) -> bool:
    return all(view.nodes[i].op_type in CHEAP_OPS for i in range(after + 1, upto + 1) if view.live[i])
