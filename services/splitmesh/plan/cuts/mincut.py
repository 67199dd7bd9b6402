"""Owns the cheapest cuts of a graph by minimum cut, whatever order its nodes are stored in. Knows static costs only.

The construction is that of DADS (Hu, Bao, Wang, Liu: "Dynamic Adaptive DNN Surgery for Inference Acceleration on the
Edge", INFOCOM 2019): source → node carries the node's time on the cloud, node → sink its time on the edge, and a node
that several others read passes its tensor on through one auxiliary vertex, so that sending it is charged once. Two
things are added. Infinite edges from reader to maker close the head under predecessors, which DADS takes for granted.
Tensors that can't cross are infinite edges too: the model's input, since sending that is no cut, and whatever
`crossing` refuses; and what makes an output of the model stays on the cloud.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from splitmesh.plan.cuts.crossing import Refusal, crossing, elements_of, make_cut, over_limits
from splitmesh.plan.cuts.cut import Crossing, Cut
from splitmesh.plan.cuts.prune import CHEAP_OPS, INTEGERS
from splitmesh.plan.graph.view import GraphView

SLOWDOWNS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Edge time over cloud time. Below 1: a worker that others keep busy."""
BYTES_PER_MS = (25.0, 125.0, 625.0, 2500.0, 12500.0)
"""Uplinks of 0.2 … 100 Mbit/s."""
COST_PER_MS = 1e7
"""What of `GraphView.cost` the cloud does in a millisecond: about 10 GMAC/s, one core of a server."""
TENSOR_BYTES = 64
"""Payload that a tensor costs whatever its size."""
_INFINITE = 2**30
_FINITE = 2**29
"""Sum of all finite capacities at most. Flow and infinite capacity add up to less than 2³¹ in the residual graph."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Costs:
    """What a head costs, all in one unit: finite, not negative."""

    edge: Sequence[float]
    """Of each node of the view, if it is in the head."""
    cloud: Sequence[float]
    """Of each node, if it is not."""
    send: Mapping[str, float]
    """Of each tensor that may cross, if it does. Others can't."""


def cheapest_head(view: GraphView, costs: Costs) -> frozenset[int] | None:
    """The set of nodes, closed under predecessors, that costs least as a head; None if no set separates legally.

    Of several equally cheap the one that is contained in all others. Costs are scaled to integers with a sum of at
    most 2²⁹, so the result is the cheapest within 2⁻²⁹ of that sum per node and tensor. Raises ValueError for costs
    that are negative or not finite.
    """
    return _Network(view, costs.send).cheapest(costs)


def head_crossings(view: GraphView, head: Iterable[int]) -> tuple[str, ...]:
    """Tensors that `head` makes and others need, in the order in which they are made."""
    inside = set(head)
    needed = {name for index in _useful(view) if index not in inside for name in view.reads[index]}
    return tuple(name for index in sorted(inside) for name in view.live[index] if name in needed)


def min_cuts(view: GraphView, frontiers: Iterable[Cut] = ()) -> list[Cut]:
    """The cheapest cuts for a fixed grid of slowdowns and links, each once, by the size of their heads.

    Those that are among `frontiers` are returned as they stand there; others are called
    `m<nodes in the head>-<C>x<H>x<W>[-<n>t]-<hash of the tensors' names>`. Limits on tensors and elements are for the
    caller to check. A cut before cheap per-element steps is moved behind them, for the reasons in `prune`.
    """
    known = {frozenset(t.name for t in cut.tensors): cut for cut in frontiers}
    work = [view.cost(index) for index in range(len(view.nodes))]
    heads = dict.fromkeys(_past_cheap_steps(view, head) for head in _over_grid(view, work))
    cuts = {cut.name: cut for cut in (_cut(view, head, known, work) for head in heads) if cut is not None}
    return sorted(cuts.values(), key=lambda c: (c.head_share, c.name))


def _over_grid(view: GraphView, work: Sequence[float]) -> list[frozenset[int]]:
    """The cheapest heads for all slowdowns and links, from large to small.

    Up to what is the same for every head, a head costs (slowdown − 1) · rate · work + sizes: one number decides. As
    it grows the heads shrink, each within the one before (Gallo, Grigoriadis, Tarjan, 1989), so that nothing new lies
    between two numbers with equal heads.
    """
    sizes = _sizes(view)
    network = _Network(view, sizes)
    grid = sorted({(slowdown - 1.0) * rate for slowdown in SLOWDOWNS for rate in BYTES_PER_MS})

    def head_at(place: int) -> frozenset[int]:
        spent = [w * abs(grid[place]) / COST_PER_MS for w in work]
        idle = [0.0] * len(work)
        costs = Costs(spent, idle, sizes) if grid[place] >= 0 else Costs(idle, spent, sizes)
        return network.cheapest(costs) or frozenset()

    found = {place: head_at(place) for place in (0, len(grid) - 1)}
    pending = [(0, len(grid) - 1)]
    while pending:
        low, high = pending.pop()
        if high - low > 1 and found[low] != found[high]:
            middle = (low + high) // 2
            found[middle] = head_at(middle)
            pending += [(low, middle), (middle, high)]
    return [found[place] for place in sorted(found) if found[place]]


def _sizes(view: GraphView) -> dict[str, float]:
    """Bytes of every tensor that may cross, at eight bits per element."""
    legal = (name for names in view.live for name in names if not isinstance(crossing(view, name), Refusal))
    sizes = {name: view.tensors[name].elements for name in legal}
    return {name: float(size + TENSOR_BYTES) for name, size in sizes.items() if not over_limits(view, 1, size)}


def _cut(
    view: GraphView, head: frozenset[int], known: Mapping[frozenset[str], Cut], work: Sequence[float]
) -> Cut | None:
    names = head_crossings(view, head)
    if not names or frozenset(names) in known:
        return known.get(frozenset(names))
    digest = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:8]
    share = min(1.0, sum(work[i] for i in sorted(head)) / (sum(work) or 1.0))
    cut = make_cut(view, f"m{len(head)}", names, node_index=max(head), head_share=share, suffix=digest)
    return None if isinstance(cut, Refusal) else cut


def _past_cheap_steps(view: GraphView, head: frozenset[int]) -> frozenset[int]:
    """`head` with every cheap step that alone reads a crossing tensor and sends no more on in its place."""
    makers = {name: index for index, made in enumerate(view.live) for name in made}
    useful = _useful(view)
    readers: dict[str, set[int]] = {}
    for index in useful:
        for name in view.reads[index]:
            readers.setdefault(name, set()).add(index)
    grown = set(head)
    for index in useful:
        reads = [name for name in view.reads[index] if name in makers]
        made = view.live[index]
        if index in grown or view.nodes[index].op_type not in CHEAP_OPS or set(made).intersection(view.outputs):
            continue
        found = [crossing(view, name) for name in (*reads, *made)]
        legal = [each for each in found if isinstance(each, Crossing)]
        if not reads or len(made) > 1 or len(legal) < len(found):
            continue
        alone = all(makers[name] in grown and readers[name] - grown == {index} for name in reads)
        eight_bits = [each.dtype in INTEGERS for each in legal]
        smaller = elements_of(legal[-1:]) <= elements_of(legal[:-1])
        if alone and smaller and (eight_bits[-1] or not any(eight_bits)):
            grown.add(index)
    return frozenset(grown)


def _useful(view: GraphView) -> list[int]:
    """Nodes that depend on an input and lead to an output, in order."""
    wanted = set(view.outputs)
    found: list[int] = []
    for index in range(len(view.nodes) - 1, -1, -1):
        if wanted.intersection(view.live[index]):
            found.append(index)
            wanted.update(view.reads[index])
    return found[::-1]


class _Network:
    """The flow network of one view: its edges once, its capacities anew for each set of costs.

    Vertices: the useful nodes in order, then one per tensor that may cross, then gate, source and sink. The gate's
    one edge to the source bounds the flow where every cut is infinite.
    """

    def __init__(self, view: GraphView, send: Iterable[str]) -> None:
        self.nodes = _useful(view)
        place = {index: vertex for vertex, index in enumerate(self.nodes)}
        maker = {name: place[index] for index in self.nodes for name in view.live[index]}
        readers: dict[str, list[int]] = {}
        for index in self.nodes:
            for name in view.reads[index]:
                readers.setdefault(name, []).append(place[index])
        legal = set(send)
        self.tensors = [name for name in maker if name in legal and name in readers and name not in view.outputs]
        first = len(self.nodes)
        relay = {name: first + i for i, name in enumerate(self.tensors)}
        self.gate = first + len(self.tensors)
        self.source, self.sink = self.gate + 1, self.gate + 2
        self.makers = np.array([maker[name] for name in self.tensors], dtype=np.int64)
        fixed: dict[tuple[int, int], None] = {}
        for name, vertices in readers.items():
            for vertex in vertices:
                if name in maker:
                    fixed[vertex, maker[name]] = None
                    fixed[relay.get(name, maker[name]), vertex] = None
        self.fixed = np.array(list(fixed), dtype=np.int64).reshape(-1, 2)
        self.on_edge = np.array(sorted({v for name in view.inputs for v in readers.get(name, ())}), dtype=np.int64)
        self.on_cloud = np.array(sorted({maker[name] for name in view.outputs if name in maker}), dtype=np.int64)

    def cheapest(self, costs: Costs) -> frozenset[int] | None:
        if not self.nodes:
            return None
        rows, columns, capacity = self._edges(costs)
        count = self.sink + 1
        graph = coo_array((capacity, (rows, columns)), shape=(count, count)).tocsr()
        found = maximum_flow(graph, self.gate, self.sink)
        if found.flow_value >= _FINITE:
            return None
        residual = csr_array(graph - found.flow)
        residual.eliminate_zeros()
        reached = breadth_first_order(residual, self.gate, directed=True, return_predecessors=False)
        return frozenset(self.nodes[vertex] for vertex in reached.tolist() if vertex < len(self.nodes))

    def _edges(self, costs: Costs) -> tuple[Ints, Ints, npt.NDArray[np.int32]]:
        """Rows, columns and capacities of all edges."""
        count = len(self.nodes)
        exact = np.array(
            [costs.cloud[i] for i in self.nodes]
            + [costs.edge[i] for i in self.nodes]
            + [costs.send[name] for name in self.tensors],
            dtype=np.float64,
        )
        if not (np.isfinite(exact).all() and (exact >= 0).all()):
            raise ValueError("costs of a cut must be finite and not negative")
        total = math.fsum(exact.tolist()) or 1.0
        finite = np.rint(exact * ((_FINITE - len(exact) - 1) / total)).astype(np.int32)
        finite[self.on_edge] = _INFINITE
        finite[count + self.on_cloud] = _INFINITE
        vertices = np.arange(count, dtype=np.int64)
        relays = count + np.arange(len(self.tensors), dtype=np.int64)
        gate, source = np.full(1, self.gate, dtype=np.int64), np.full(count, self.source, dtype=np.int64)
        rows = np.concatenate([source, vertices, self.makers, self.fixed[:, 0], gate])
        columns = np.concatenate([vertices, np.full_like(vertices, self.sink), relays, self.fixed[:, 1], gate + 1])
        endless = np.full(len(self.fixed), _INFINITE, dtype=np.int32)
        return rows, columns, np.concatenate([finite, endless, np.full(1, _FINITE, dtype=np.int32)])
