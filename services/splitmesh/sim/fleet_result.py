"""Owns what a simulated fleet leaves behind: figures of each edge, of each worker and of all together."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.sim.edge import Edge
from splitmesh.sim.request import Said
from splitmesh.sim.result import Latency, Settled
from splitmesh.sim.workers import Pool, Worker

REFUSALS = (Said.OVERLOADED, Said.EXPIRED, Said.NO_RESPONDERS)
"""For lack of time, room or a worker; a stream that has to begin anew is none."""
_WORST_SHARE = 0.05


class Tally:
    """Adds up what becomes of one edge's frames, without keeping them."""

    def __init__(self) -> None:
        self.utility = 0.0
        self.hits = 0
        self.fidelity = 0.0
        self.latencies_ms = array("d")
        self.decisions: Counter[str] = Counter()

    def add(self, _seq: int, settled: Settled) -> None:
        self.latencies_ms.append(settled.latency_ms)
        self.fidelity += settled.fidelity
        self.decisions[settled.point] += 1
        if settled.hit:
            self.hits += 1
            self.utility += settled.fidelity


@dataclass(frozen=True, slots=True)
class EdgeFigures:
    """`uplink`: number of the link that it is on. The others as in `sim.result.Figures`."""

    edge: int
    uplink: int
    utility: float
    hit: float
    fidelity: float
    latency_ms: Latency
    bytes_per_frame: float
    requests: int
    """Payloads and probes that were sent."""
    refused: int
    outcomes: dict[str, int]


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """`utilisation`: share of its slots' time that was spent on requests, [0, 1]."""

    worker: int
    utilisation: float
    answered: int
    refused: int


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """Means over edges, which all capture alike. Latencies are of all edges' frames."""

    utility: float
    utility_worst: float
    """Mean of the worst 5 % of edges, one at least."""
    jain: float
    """Fairness of utilities, `(Σu)² / (n·Σu²)`, from 1/n to 1 (Jain, Chiu and Hawe 1984)."""
    hit: float
    fidelity: float
    latency_ms: Latency
    bytes_per_frame: float
    uplink_bps: float
    """Payloads and what messages add, probes among them: mean over links."""
    utilisation: float
    """Mean over workers."""
    pool_wait_ms: float
    """Mean time in a worker's queue of requests that were answered; 0 where none was."""
    pool_wait_p95_ms: float
    refused: float
    """Share of the requests that were sent."""
    outcomes: dict[str, int]
    decisions: dict[str, int]


@dataclass(frozen=True, slots=True)
class FleetResult:
    """`stands_for`: edges of the fleet per simulated one; counts are of those that were simulated."""

    stands_for: float
    edges: tuple[EdgeFigures, ...]
    workers: tuple[WorkerFigures, ...]
    figures: FleetFigures
    frames: int
    events: int

    def document(self) -> dict[str, Any]:
        return asdict(self)


def fleet_figures(
    edges: list[Edge], tallies: list[Tally], pool: Pool, *, per_uplink: int, slots: int, span_s: float
) -> tuple[tuple[EdgeFigures, ...], tuple[WorkerFigures, ...], FleetFigures]:
    """Figures of a run that is over. span_s: for how long frames were captured."""
    each = tuple(
        _edge_figures(number, number // per_uplink, edge, tally)
        for number, (edge, tally) in enumerate(zip(edges, tallies, strict=True))
    )
    workers = tuple(_worker_figures(worker, slots * span_s) for worker in pool.workers)
    return each, workers, _all_figures(each, workers, tallies, pool, span_s=span_s)


def _edge_figures(number: int, uplink: int, edge: Edge, tally: Tally) -> EdgeFigures:
    count, door = len(tally.latencies_ms), edge.door
    return EdgeFigures(
        edge=number,
        uplink=uplink,
        utility=tally.utility / count,
        hit=tally.hits / count,
        fidelity=tally.fidelity / count,
        latency_ms=_latency(np.array(tally.latencies_ms)),
        bytes_per_frame=door.uplink_bytes / count if door else 0.0,
        requests=door.requests if door else 0,
        refused=_refused(door.refusals) if door else 0,
        outcomes=edge.ledger.counts(),
    )


def _worker_figures(worker: Worker, slots_s: float) -> WorkerFigures:
    return WorkerFigures(
        worker.number, worker.served_ns / 1e9 / slots_s, len(worker.waits_ms), _refused(worker.refused)
    )


def _all_figures(
    edges: tuple[EdgeFigures, ...],
    workers: tuple[WorkerFigures, ...],
    tallies: list[Tally],
    pool: Pool,
    *,
    span_s: float,
) -> FleetFigures:
    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    utilities = sorted(edge.utility for edge in edges)
    squares = sum(value * value for value in utilities)
    waits_ms = np.concatenate([np.array(worker.waits_ms) for worker in pool.workers])
    requests = sum(edge.requests for edge in edges)
    uplinks = 1 + max(edge.uplink for edge in edges)
    sent_bytes = sum(
        edge.bytes_per_frame * len(tally.latencies_ms) for edge, tally in zip(edges, tallies, strict=True)
    )
    return FleetFigures(
        utility=mean(utilities),
        utility_worst=mean(utilities[: math.ceil(_WORST_SHARE * len(utilities))]),
        jain=sum(utilities) ** 2 / (len(utilities) * squares) if squares else 1.0,
        hit=mean(edge.hit for edge in edges),
        fidelity=mean(edge.fidelity for edge in edges),
        latency_ms=_latency(np.concatenate([np.array(tally.latencies_ms) for tally in tallies])),
        bytes_per_frame=mean(edge.bytes_per_frame for edge in edges),
        uplink_bps=8 * sent_bytes / span_s / uplinks,
        utilisation=mean(worker.utilisation for worker in workers),
        pool_wait_ms=float(waits_ms.mean()) if len(waits_ms) else 0.0,
        pool_wait_p95_ms=float(np.percentile(waits_ms, 95)) if len(waits_ms) else 0.0,
        refused=sum(edge.refused for edge in edges) / requests if requests else 0.0,
        outcomes=_total(edge.outcomes for edge in edges),
        decisions=_total(tally.decisions for tally in tallies),
    )


def _latency(latencies_ms: npt.NDArray[np.float64]) -> Latency:
    p50, p95, p99 = np.percentile(latencies_ms, (50, 95, 99)).tolist()
    return Latency(float(latencies_ms.mean()), p50, p95, p99)


def _refused(said: Counter[Said]) -> int:
    return sum(said[each] for each in REFUSALS)


def _total(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for each in counts:
        summed.update(each)
    return dict(sorted(summed.items()))
