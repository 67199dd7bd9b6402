"""Owns when requests shall leave. Schedules are fixed beforehand: nothing that a server does can move an arrival."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from meshload.errors import LoadError
from meshload.histogram import F64
from meshload.stages import RateCurve, Stage
from meshload.target import Payload

KINDS = ("constant", "poisson", "bursty", "trace:FILE")
BURST_FACTOR = 4.0
"""How much above its mean the rate of `bursty` is within a burst."""
BURST_MEAN_S = 0.25
BURST_SHARE = 0.2
"""Of the time is within bursts."""
_CHUNK = 4096


class Arrival(NamedTuple):
    """One intended send. A schedule is an iterator of these, ordered by time."""

    at_ns: int
    """Since the start of the run, its warm-up included."""
    tenant: str = ""
    """"": the target's own."""
    edge: str = "meshload"
    deadline_ns: int = 0
    """After `at_ns`; 0: none."""
    payload: Payload | None = None
    """None: the next one of the run's payloads."""


def schedule(
    curve: RateCurve,
    kind: str,
    *,
    seed: int,
    tenants: Mapping[str, float] | None = None,
    deadline_ns: int = 0,
    every: tuple[int, int] = (0, 1),
) -> Iterator[Arrival]:
    """The arrivals of `kind` whose rate follows `curve`; the same for the same arguments.

    constant: evenly spaced. poisson: independent, as of many users who know nothing of each other. bursty: Poisson
    whose rate is `BURST_FACTOR` times its mean within bursts (two states, exponential lengths: an MMPP-2; Fischer and
    Meier-Hellstern, Performance Evaluation 18, 1993). tenants: their shares. every: (i, n) gives arrivals i, i+n, …,
    so that n processes together make the whole schedule. Raises LoadError for another `kind`.
    """
    random = np.random.default_rng(seed)
    if kind == "constant":
        times = _constant(curve)
    elif kind == "poisson":
        times = _poisson(curve, random)
    elif kind == "bursty":
        times = _poisson(bursts(curve, random), random)
    else:
        raise LoadError(f"--arrivals {kind}: no such arrivals", advice=f"known: {', '.join(KINDS)}")
    return islice(_arrivals(times, _chooser(tenants, seed), deadline_ns), every[0], None, every[1])


def from_times(
    times_s: F64,
    length_s: float,
    *,
    mean_rps: float | None,
    seed: int,
    tenants: Mapping[str, float] | None = None,
    deadline_ns: int = 0,
    every: tuple[int, int] = (0, 1),
) -> Iterator[Arrival]:
    """Arrivals at recorded times, from the first again when they are used up, until `length_s`.

    mean_rps: stretch time so that this is the mean rate; None: as recorded.
    """
    scale = 1.0 if mean_rps is None else (len(times_s) / period_s(times_s)) / mean_rps
    scaled, period = times_s * scale, period_s(times_s) * scale

    def rounds() -> Iterator[F64]:
        for number in range(math.ceil(length_s / period)):
            times = number * period + scaled
            yield times[times < length_s - 1e-9]

    return islice(_arrivals(rounds(), _chooser(tenants, seed), deadline_ns), every[0], None, every[1])


def read_times(path: Path) -> F64:
    """The seconds, one number a line, '#' starts a comment; the first becomes 0. Raises LoadError."""
    try:
        times = np.loadtxt(path, dtype=np.float64, ndmin=1, usecols=0, delimiter=",")
    except (OSError, ValueError) as exc:
        raise LoadError(f"--arrivals trace:{path}: {exc}", advice="one time in seconds a line, rising") from exc
    if len(times) < 2 or not np.isfinite(times).all() or (np.diff(times) < 0).any() or times[-1] == times[0]:
        raise LoadError(f"--arrivals trace:{path}: not at least two rising times", advice="one time in s a line")
    shifted: F64 = times - times[0]
    return shifted


def period_s(times_s: F64) -> float:
    """How long a recording is: up to its last arrival, and the mean gap after it."""
    return float(times_s[-1]) * len(times_s) / (len(times_s) - 1)


def bursts(curve: RateCurve, random: np.random.Generator) -> RateCurve:
    """`curve` with its rate multiplied within bursts and lowered between them, its mean kept."""
    calm = (1 - BURST_SHARE * BURST_FACTOR) / (1 - BURST_SHARE)
    calm_mean_s = BURST_MEAN_S * (1 - BURST_SHARE) / BURST_SHARE
    stages: list[Stage] = []
    within = bool(random.random() < BURST_SHARE)
    left_s = float(random.exponential(BURST_MEAN_S if within else calm_mean_s))
    for stage in curve.stages:
        done_s = 0.0
        slope = (stage.end_rps - stage.start_rps) / stage.length_s
        while done_s < stage.length_s:
            length_s = min(left_s, stage.length_s - done_s)
            factor = BURST_FACTOR if within else calm
            start = stage.start_rps + slope * done_s
            stages.append(Stage(max(length_s, 1e-9), start * factor, (start + slope * length_s) * factor))
            done_s, left_s = done_s + length_s, left_s - length_s
            if left_s <= 0:
                within = not within
                left_s = float(random.exponential(BURST_MEAN_S if within else calm_mean_s))
    return RateCurve(stages)


def parse_tenants(text: str) -> dict[str, float]:
    """Shares of "a:3,b:1" or "a,b". Raises LoadError."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition(":")
        try:
            shares[name] = float(share or 1)
        except ValueError:
            shares[name] = -1.0
        if not name or not 0 < shares[name] < 1e9:
            raise LoadError(f"--tenants: {part!r} is no share", advice="write tenants as a:3,b:1")
    return shares


def _constant(curve: RateCurve) -> Iterator[F64]:
    total = int(curve.requests + 1e-6)
    for start in range(0, total, _CHUNK):
        yield curve.times_s(np.arange(start, min(start + _CHUNK, total), dtype=np.float64))


def _poisson(curve: RateCurve, random: np.random.Generator) -> Iterator[F64]:
    """A unit-rate process through the inverse of the curve's integral (time rescaling)."""
    reached = 0.0
    while reached < curve.requests:
        asked = reached + np.cumsum(random.exponential(1.0, _CHUNK))
        reached = float(asked[-1])
        yield curve.times_s(asked[asked < curve.requests])


def _chooser(tenants: Mapping[str, float] | None, seed: int) -> Callable[[int], Sequence[str]]:
    if not tenants:
        return lambda count: [""] * count
    names, shares = list(tenants), np.array(list(tenants.values()))
    if len(names) == 1:
        return lambda count: names * count
    random = np.random.default_rng((seed, 1))
    return lambda count: [names[i] for i in random.choice(len(names), count, p=shares / shares.sum())]


def _arrivals(chunks: Iterator[F64], choose: Callable[[int], Sequence[str]], deadline_ns: int) -> Iterator[Arrival]:
    for chunk in chunks:
        at_ns = (chunk * 1e9).astype(np.int64).tolist()
        for at, tenant in zip(at_ns, choose(len(at_ns)), strict=True):
            yield Arrival(at, tenant, "meshload", deadline_ns)
