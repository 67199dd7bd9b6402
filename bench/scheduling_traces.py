"""Owns arrivals for `bench.scheduling` and the machine that serves them on virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

MS = 1_000_000
SECOND = 1_000_000_000
MEAN_MS = 10.0
_SPREAD = 0.25
"""Of a service's logarithm."""
_STALL, _STALL_FACTOR = 0.02, 4.0
"""So many services take so much longer: they are the tail."""
KINDS = ("poisson", "bursty", "frames")
_CALM_S, _BURST_S, _BURST = 0.8, 0.2, 3.0
"""Bursty arrivals: mean length of either state, and the rate within bursts over the mean."""
_JITTER = 0.1
"""Of a period, either way."""


@dataclass(frozen=True, slots=True)
class Source:
    """What sends jobs at one mean rate with one deadline."""

    tenant: str
    rate_hz: float
    budget_ns: int


@dataclass(frozen=True, slots=True)
class Job:
    """One arrival; `cost_ns` is what it truly takes, which no rule knows beforehand."""

    number: int
    at_ns: int
    source: Source
    cost_ns: int

    @property
    def deadline_ns(self) -> int:
        return self.at_ns + self.source.budget_ns


def sources(load: float, servers: int, *, tenants: int = 5) -> list[Source]:
    """Four sources for each tenant, with every deadline and every rate once; together `load` of the servers."""
    budgets_ms, rates = (50, 100, 200, 500), (2.0, 5.0, 10.0, 20.0)
    made = [
        Source(f"t{tenant}", rates[(number + tenant) % 4], budget * MS)
        for tenant in range(tenants)
        for number, budget in enumerate(budgets_ms)
    ]
    scale = load * servers * 1e3 / MEAN_MS / sum(source.rate_hz for source in made)
    return [replace(source, rate_hz=scale * source.rate_hz) for source in made]


def trace(kind: str, sent_by: Sequence[Source], duration_s: float, seed: int) -> list[Job]:
    """Arrivals of one of `KINDS`, by time. Each source has luck of its own: more of one changes nothing of others."""
    moments = [
        (at_s, number, rng.random(), rng.gauss(0, 1), source)
        for number, source in enumerate(sent_by)
        for rng in [random.Random(f"{seed} {kind} {number}")]
        for at_s in _moments(kind, source.rate_hz, duration_s, seed, rng)
    ]
    jobs = []
    for number, (at_s, _, stall, normal, source) in enumerate(sorted(moments, key=lambda each: each[:2])):
        factor = _STALL_FACTOR if stall < _STALL else 1.0
        cost_ms = (
            factor * MEAN_MS / (1 + _STALL * (_STALL_FACTOR - 1)) * 2.718281828 ** (_SPREAD * normal - _SPREAD**2 / 2)
        )
        jobs.append(Job(number, round(at_s * SECOND), source, round(cost_ms * MS)))
    return jobs


def _moments(kind: str, rate_hz: float, duration_s: float, seed: int, rng: random.Random) -> Iterator[float]:
    if kind == "frames":
        period = 1 / rate_hz
        begun = rng.uniform(0, period)
        for frame in range(int((duration_s - begun) / period)):
            yield begun + period * (frame + rng.uniform(0, 2 * _JITTER))
        return
    bursts = _bursts(duration_s, random.Random(f"{seed} bursts")) if kind == "bursty" else []
    calm = (1 - _BURST * _BURST_S / (_CALM_S + _BURST_S)) * (_CALM_S + _BURST_S) / _CALM_S
    fastest = _BURST if kind == "bursty" else 1.0
    now = 0.0
    while (now := now + rng.expovariate(fastest * rate_hz)) < duration_s:
        rate = 1.0 if kind == "poisson" else _BURST if any(a <= now < b for a, b in bursts) else calm
        if rng.random() < rate / fastest:
            yield now


def _bursts(duration_s: float, rng: random.Random) -> list[tuple[float, float]]:
    """When all sources send much: a Markov-modulated Poisson process of two states."""
    made, now = [], 0.0
    while (now := now + rng.expovariate(1 / _CALM_S)) < duration_s:
        made.append((now, now := now + rng.expovariate(1 / _BURST_S)))
    return made


class Rule(Protocol):
    """An order of service. Ids are job numbers."""

    def push(self, job: Job, now_ns: int) -> bool:
        """False: refused."""

    def pop(self, now_ns: int) -> tuple[Job | None, list[Job]]:
        """The next, if a server is free, and those that will not be served."""

    def done(self, job: Job, now_ns: int) -> None: ...


@dataclass(slots=True)
class Ended:
    """What became of a job: "answered" (perhaps late), "refused" on arrival or "dropped" later; when."""

    job: Job
    how: str
    at_ns: int

    @property
    def in_time(self) -> bool:
        return self.how == "answered" and self.at_ns <= self.job.deadline_ns

    @property
    def took_ms(self) -> float:
        return (self.at_ns - self.job.at_ns) / MS


def serve(rule: Rule, jobs: Sequence[Job]) -> list[Ended]:
    """Every job's end. The rule knows how many servers it has."""
    ended: list[Ended] = []
    running: list[tuple[int, int, Job]] = []

    def pump(now_ns: int) -> None:
        job: Job | None = None
        while True:
            job, dropped = rule.pop(now_ns)
            ended.extend(Ended(each, "dropped", now_ns) for each in dropped)
            if job is None:
                return
            heapq.heappush(running, (now_ns + job.cost_ns, job.number, job))

    def finish_until(then_ns: float) -> None:
        while running and running[0][0] <= then_ns:
            now_ns, _, job = heapq.heappop(running)
            rule.done(job, now_ns)
            ended.append(Ended(job, "answered", now_ns))
            pump(now_ns)

    for job in jobs:
        finish_until(job.at_ns)
        if not rule.push(job, job.at_ns):
            ended.append(Ended(job, "refused", job.at_ns))
        pump(job.at_ns)
    finish_until(float("inf"))
    if len(ended) != len(jobs):
        raise AssertionError(f"{len(jobs)} jobs came, {len(ended)} ended")
    return ended
