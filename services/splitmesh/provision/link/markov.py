"""Owns the making of a link trace from states that follow each other by chance. Knows no kind of network.

A semi-Markov process: what comes next depends on the present state alone, how long it lasts is drawn when it is
entered. Within a state the rate wanders as a log-normal first-order walk, as rates of cellular links do in seconds
(Winstein, Sivaraman and Balakrishnan, "Stochastic Forecasts Achieve High Throughput and Low Delay over Cellular
Networks", NSDI 2013, model a link as a doubly stochastic process with outages; the walk is our choice).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from splitmesh.provision.link.trace import Step

_MOST_SIGMAS = 3.0
_SQUARINGS = 60


@dataclass(frozen=True, slots=True)
class State:
    """One condition of a link, as long as it lasts.

    rate_bps: mean, 0 for dead time. delay_ms: one way. A visit lasts `least_s` plus what is drawn from an exponential
    distribution of mean `more_s`, to the millisecond. after: weight of each state that may follow.
    spread: standard deviation of the rate's logarithm within a visit. visit_spread: the same from visit to visit.
    visit_delay_ms: up to so much is added to the delay, drawn for each visit.
    """

    rate_bps: float
    delay_ms: float
    least_s: float
    more_s: float
    after: Mapping[str, float]
    jitter_ms: float = 0.0
    spread: float = 0.0
    visit_spread: float = 0.0
    visit_delay_ms: float = 0.0

    @property
    def mean_s(self) -> float:
        return self.least_s + self.more_s


@dataclass(frozen=True, slots=True)
class Process:
    """States by name. A rate is drawn anew every `tick_s`, with a memory of `memory_s`. down_bps: the downlink."""

    states: Mapping[str, State]
    down_bps: float
    tick_s: float = 0.1
    memory_s: float = 1.0

    def shares(self) -> dict[str, float]:
        """Share of time in each state in the long run, in (0, 1], together 1: visits × their mean length."""
        names = list(self.states)
        step = np.array([[self.states[a].after.get(b, 0.0) for b in names] for a in names])
        step /= step.sum(axis=1, keepdims=True)
        # States may take turns: half a step at a time settles all the same.
        step = (step + np.eye(len(names))) / 2
        for _ in range(_SQUARINGS):
            step = step @ step
            step /= step.sum(axis=1, keepdims=True)
        lengths = step[0] * np.array([self.states[name].mean_s for name in names])
        return dict(zip(names, (lengths / lengths.sum()).tolist(), strict=True))

    def mean_bps(self) -> float:
        """Mean rate in the long run."""
        return sum(share * self.states[name].rate_bps for name, share in self.shares().items())

    def steps(self, duration_s: float, seed: str) -> tuple[Step, ...]:
        """Conditions for `duration_s`, above 0. The same seed gives the same, and a longer run begins as a shorter
        one. Rates are whole bit/s, times whole ms.
        """
        return tuple(step for _, step in self.visits(duration_s, seed))

    def visits(self, duration_s: float, seed: str) -> list[tuple[str, Step]]:
        """As `steps`, each with the name of its state."""
        rng = random.Random(seed)
        tick_ms = round(self.tick_s * 1000)
        keep = math.exp(-self.tick_s / self.memory_s)
        made: list[tuple[str, Step]] = []
        name, at_ms, walk = _drawn(self.shares(), rng), 0, rng.gauss(0, 1)
        while at_ms / 1000 < duration_s:
            state = self.states[name]
            left_ms = max(1, round(1000 * (state.least_s + state.more_s * -math.log(1 - rng.random()))))
            mean_bps = state.rate_bps * _log_normal(rng.gauss(0, 1), state.visit_spread)
            delay_ms = round(state.delay_ms + state.visit_delay_ms * rng.random(), 3)
            while left_ms > 0 and at_ms / 1000 < duration_s:
                rate_bps = round(mean_bps * _log_normal(walk, state.spread))
                made.append((name, Step(at_ms / 1000, float(rate_bps), delay_ms, state.jitter_ms)))
                piece_ms = min(tick_ms if state.spread else left_ms, left_ms)
                at_ms += piece_ms
                left_ms -= piece_ms
                walk = keep * walk + math.sqrt(1 - keep * keep) * rng.gauss(0, 1)
            name = _drawn(state.after, rng)
        return made


def _log_normal(z: float, spread: float) -> float:
    """A factor of mean 1, for `z` of a standard normal distribution."""
    z = min(max(z, -_MOST_SIGMAS), _MOST_SIGMAS)
    return math.exp(spread * z - spread * spread / 2)


def _drawn(weights: Mapping[str, float], rng: random.Random) -> str:
    left = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        left -= weight
        if left < 0:
            return name
    return list(weights)[-1]
