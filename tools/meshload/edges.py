"""Owns many virtual edges: who asks when. Merges their frames into one schedule as it is read, and holds no frame.

Each edge has its own name, tenant, frame rate, phase and deadline, drawn once from a seed; its frames come evenly.
All edges together hold some hundred bytes each, however long the run is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from itertools import accumulate
from typing import Final, NamedTuple

from meshload.arrivals import Arrival
from meshload.errors import LoadError
from splitmesh.errors import WireError
from splitmesh.wire.headers import MAX_BUDGET_US
from splitmesh.wire.subjects import check_token

MAX_EDGES: Final = 1_000_000
_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class EdgeMix:
    """What edges are drawn from. Raises LoadError for what no fleet can be.

    count: how many. fps: lowest and highest frame rate, frames per second, drawn evenly between. deadline_ms: lowest
    and highest, drawn evenly between; (0, 0): none. tenants: name → weight; none: all are the target's own.
    """

    count: int
    fps: tuple[float, float] = (1.0, 1.0)
    deadline_ms: tuple[float, float] = (0.0, 0.0)
    tenants: Mapping[str, float] | None = None
    seed: int = 1
    prefix: str = "edge"

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_EDGES:
            raise LoadError(f"--edges {self.count} is not in 1 … {MAX_EDGES}")
        if not 0 < self.fps[0] <= self.fps[1] <= 1000:
            raise LoadError(f"--fps {_range(self.fps)} is not within 0 … 1000, the lower first")
        if not 0 <= self.deadline_ms[0] <= self.deadline_ms[1] <= MAX_BUDGET_US / 1000:
            raise LoadError(f"a deadline of {_range(self.deadline_ms)} ms is not within 0 … 600 s, the lower first")
        try:
            check_token(_name(self.prefix, self.count), field="edge")
            for tenant in self.tenants or ():
                check_token(tenant, field="tenant")
        except WireError as exc:
            raise LoadError(exc.message, advice=exc.advice) from exc
        if self.tenants is not None and not all(0 < weight < 1e9 for weight in self.tenants.values()):
            raise LoadError("each tenant's weight must be above 0")

    @property
    def rate(self) -> float:
        """Requests per second that are to be expected of all edges together."""
        return self.count * (self.fps[0] + self.fps[1]) / 2


class Edge(NamedTuple):
    """One camera. Times in ns; phase_ns: of its first frame, within its period."""

    name: str
    tenant: str
    period_ns: int
    phase_ns: int
    deadline_ns: int


def draw_edges(mix: EdgeMix) -> tuple[Edge, ...]:
    """The same edges for the same mix. Tenants have as many edges as their weights say, to the nearest edge."""
    rng = random.Random(mix.seed)
    owners = _owners(mix.tenants, mix.count, rng)
    edges: list[Edge] = []
    for number in range(mix.count):
        period_ns = round(_S / rng.uniform(*mix.fps))
        deadline_ns = round(rng.uniform(*mix.deadline_ms) * 1e6)
        edges.append(
            Edge(_name(mix.prefix, number), owners[number], period_ns, rng.randrange(period_ns), deadline_ns)
        )
    return tuple(edges)


def arrivals(edges: tuple[Edge, ...], *, until_ns: int) -> Iterator[Arrival]:
    """Every frame of all `edges` before `until_ns`, by time. Lazy: a heap with one entry per edge is all it holds."""
    heap = [(edge.phase_ns, number) for number, edge in enumerate(edges) if edge.phase_ns < until_ns]
    heapify(heap)
    while heap:
        at_ns, number = heap[0]
        edge = edges[number]
        next_ns = at_ns + edge.period_ns
        if next_ns < until_ns:
            heapreplace(heap, (next_ns, number))
        else:
            heappop(heap)
        yield Arrival(at_ns, edge.tenant, edge.name, edge.deadline_ns)


def shared(edges: tuple[Edge, ...], *, part: int, of: int) -> tuple[Edge, ...]:
    """The edges of process `part` of `of`, from 0: every edge belongs to exactly one."""
    return edges[part::of]


def parse_range(text: str, *, option: str) -> tuple[float, float]:
    """(lowest, highest) of "5" or "1-15". Raises LoadError that names `option`."""
    low, dash, high = text.partition("-")
    try:
        return float(low), float(high if dash else low)
    except ValueError:
        raise LoadError(f"{option} {text} is neither a number nor two with a dash", advice="e.g. 5 or 1-15") from None


def _owners(tenants: Mapping[str, float] | None, count: int, rng: random.Random) -> list[str]:
    if not tenants:
        return [""] * count
    total = sum(tenants.values())
    ends = [round(count * share / total) for share in accumulate(tenants.values())]
    owners: list[str] = []
    for tenant, end in zip(tenants, ends, strict=True):
        owners += [tenant] * (end - len(owners))
    rng.shuffle(owners)
    return owners


def _name(prefix: str, number: int) -> str:
    return f"{prefix}-{number:06d}"


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:g}" if bounds[0] == bounds[1] else f"{bounds[0]:g}-{bounds[1]:g}"
