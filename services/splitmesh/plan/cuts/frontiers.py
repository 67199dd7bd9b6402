"""Owns where a model may be cut: a walk over the graph's frontiers. Decides from the graph alone, never from a clock.

Both ends of the mesh must come to the same cuts with the same names, whatever machine they run on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from splitmesh.plan.bundle.schema import Strip
from splitmesh.plan.cuts.crossing import Refusal, make_cut, over_limits
from splitmesh.plan.cuts.cut import Cut, Rejected
from splitmesh.plan.cuts.mincut import min_cuts
from splitmesh.plan.cuts.prune import prune, shapes_of
from splitmesh.plan.graph.view import GraphView


@dataclass(frozen=True, slots=True)
class Survey:
    """What a walk over a graph found."""

    candidates: tuple[Cut, ...]
    """Sensible cuts in order of `node_index`."""
    rejected: tuple[Rejected, ...]
    """Frontiers that are none, in order, then such min-cuts, with the reason. Neighbouring frontiers with the same
    reason are one entry, "n12…n30"; so are those between which two or more reasons take turns."""
    frontiers: int
    """How many were looked at."""
    strip: Strip


@dataclass(frozen=True, slots=True)
class _Frontier:
    """The tensors that are live after node `index` of the file's node list."""

    index: int
    tensors: tuple[str, ...]
    elements: int
    """Of all of them; 0 if a shape is not known."""
    share: float


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring frontiers that are refused."""

    first: int
    last: int
    why: dict[str, list[int]]
    """Text of the refusal → its numbers."""

    def __add__(self, other: _Run) -> _Run:
        texts = dict.fromkeys([*self.why, *other.why])
        return _Run(
            self.first, other.last, {text: self.why.get(text, []) + other.why.get(text, []) for text in texts}
        )

    def rejected(self) -> Rejected:
        name = f"n{self.first}" if self.first == self.last else f"n{self.first}…n{self.last}"
        return Rejected(name, "graph", "; ".join(_filled(text, numbers) for text, numbers in self.why.items()))


def survey(view: GraphView) -> Survey:
    """Look at every frontier and at the graph's minimum cuts.

    A frontier after node i is legal if it has at most three live tensors, each of a type, shape and size that
    `crossing` lets through, together at most twice the input's elements; none of them is an input or an output of
    the model. Bodies of If, Loop and Scan are never cut: such a node is one step. `prune` says which legal ones are
    worth a look. A min-cut that is a frontier shares the fate of that frontier.
    """
    frontiers, legal, refused = _looked_at(view)
    kept, pruned = prune(view, legal)
    refused.update((index, Refusal(why)) for index, why in pruned.items())
    walked = {frozenset(frontier.tensors) for frontier in frontiers}
    beyond = [c for c in min_cuts(view, legal) if frozenset(t.name for t in c.tensors) not in walked]
    others, beaten = _judged(view, beyond, kept)
    return Survey(
        candidates=tuple(sorted([*kept, *others], key=lambda c: (c.node_index, c.name))),
        rejected=(*(run.rejected() for run in _runs(frontiers, refused)), *beaten),
        frontiers=len(frontiers),
        strip=_strip(view, frontiers),
    )


def legal_frontiers(view: GraphView) -> list[Cut]:
    """Every legal frontier of the stored order, also those that `survey` finds not worth a look."""
    return _looked_at(view)[1]


def _looked_at(view: GraphView) -> tuple[list[_Frontier], list[Cut], dict[int, Refusal]]:
    """All frontiers, the legal ones as cuts, and why the others are not, by node index."""
    frontiers = list(_walk(view))
    legal: list[Cut] = []
    refused: dict[int, Refusal] = {}
    for frontier in frontiers:
        cut = _cut(view, frontier)
        if isinstance(cut, Cut):
            legal.append(cut)
        else:
            refused[frontier.index] = cut
    return frontiers, legal, refused


def _walk(view: GraphView) -> Iterator[_Frontier]:
    """The frontier after each node that depends on the input."""
    total = sum(view.cost(i) for i in range(len(view.nodes))) or 1.0
    now: dict[str, None] = dict.fromkeys(view.inputs)
    spent = 0.0
    for index, made in enumerate(view.live):
        if not made:
            continue
        spent += view.cost(index)
        now.update(dict.fromkeys(made))
        for name in [n for n in now if view.last_read.get(n, -1) <= index]:
            del now[name]
        infos = [view.tensors.get(name) for name in now]
        known = all(info is not None and info.shape is not None for info in infos)
        elements = sum(info.elements for info in infos if info) if known else 0
        yield _Frontier(index, tuple(now), elements, min(1.0, spent / total))


def _cut(view: GraphView, frontier: _Frontier) -> Cut | Refusal:
    if not frontier.tensors:
        return Refusal("nothing is live")
    for name in frontier.tensors:
        if name in view.inputs:
            return Refusal(f"the model's input {name} is needed behind it")
        if name in view.outputs:
            return Refusal(f"crosses an output: {name} is made before it")
    many = over_limits(view, len(frontier.tensors), 0)
    if many is not None:
        return many
    cut = make_cut(view, f"n{frontier.index}", frontier.tensors, node_index=frontier.index, head_share=frontier.share)
    return cut if isinstance(cut, Refusal) else over_limits(view, len(cut.tensors), cut.elements) or cut


def _judged(view: GraphView, cuts: Sequence[Cut], kept: Sequence[Cut]) -> tuple[list[Cut], list[Rejected]]:
    """Of the min-cuts that are no frontier: those worth a look, and why the others are not."""
    taken, rejected = [], []
    for cut in cuts:
        refusal = over_limits(view, len(cut.tensors), cut.elements)
        early = (k for k in kept if k.head_share <= cut.head_share)
        twin = next((k for k in early if shapes_of(k) == shapes_of(cut)), None)
        if refusal is not None:
            rejected.append(Rejected(cut.name, "graph", _filled(refusal.text, [refusal.number or 0])))
        elif twin is not None:
            rejected.append(Rejected(cut.name, "graph", f"same shapes as {twin.name}, which comes first"))
        else:
            taken.append(cut)
    return taken, rejected


def _runs(frontiers: Sequence[_Frontier], refused: Mapping[int, Refusal]) -> list[_Run]:
    """Refused neighbours put together where their reasons differ in a number at most, or take turns."""
    done: list[_Run] = []
    stretch: list[_Run] = []
    for frontier in frontiers:
        refusal = refused.get(frontier.index)
        if refusal is None:
            done, stretch = done + stretch, []
            continue
        numbers = [] if refusal.number is None else [refusal.number]
        run = _Run(frontier.index, frontier.index, {refusal.text: numbers})
        start = next((i for i, known in enumerate(stretch) if refusal.text in known.why), len(stretch))
        for known in reversed(stretch[start:]):
            run = known + run
        stretch[start:] = [run]
    return done + stretch


def _filled(text: str, numbers: Sequence[int]) -> str:
    if not numbers:
        return text
    low, high = min(numbers), max(numbers)
    return text.replace("{}", str(low) if low == high else f"{low}…{high}")


def _strip(view: GraphView, frontiers: Sequence[_Frontier]) -> Strip:
    return Strip(
        ops=tuple(view.nodes[f.index].op_type for f in frontiers),
        elements=tuple(f.elements for f in frontiers),
        shares=tuple(round(f.share, 6) for f in frontiers),
        index=tuple(f.index for f in frontiers),
    )
