"""Owns whether two runs differ, and by how much: a moving-block bootstrap over their seconds. Pure.

Requests of one moment share their fate, so that they are no independent samples; seconds nearly are, and blocks of
some neighbouring ones more so (Künsch, Annals of Statistics 17, 1989). Each figure is computed anew for `ROUNDS`
draws of blocks from either run; the 95 % interval of the difference is that of the draws (percentile method, Efron,
Annals of Statistics 7, 1979).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from meshload.histogram import COARSE, F64, I64, quantiles_ns
from meshload.outcome import Outcome

ROUNDS: Final = 2000
LEAST_SECONDS: Final = 8
"""Of each run, below which nothing is stated."""
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of two runs. `low`, `high`: 95 % interval of B minus A; None: too few seconds to say."""

    name: str
    unit: str
    before: float
    after: float
    low: float | None = None
    high: float | None = None
    less_is_better: bool = True

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def is_significant(self) -> bool:
        """The interval leaves out 0: p < 0.05, two-sided, for this figure alone."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def verdict(self) -> str:
        if self.low is None:
            return "unknown"
        if not self.is_significant:
            return "same"
        return "better" if (self.change < 0) == self.less_is_better else "worse"


def compare(before: Outcome, after: Outcome, *, seed: int = 1) -> tuple[Difference, ...]:
    """Latency quantiles and mean (ms), hit rate (share) and answered rate (per s) of two runs."""
    names = [*QUANTILES, "mean"]
    sides = [_Side(outcome) for outcome in (before, after)]
    whole = [side.figures(np.ones((1, side.seconds)))[0] for side in sides]
    drawn: list[F64] | None = None
    if all(side.seconds >= LEAST_SECONDS for side in sides):
        random = np.random.default_rng(seed)
        drawn = [side.figures(block_weights(side.seconds, ROUNDS, random)) for side in sides]
    units = [*("ms" for _ in names), "%", "/s"]
    found = []
    for place, (name, unit) in enumerate(zip([*names, "hit", "answered"], units, strict=True)):
        a, b = (float(side[place]) for side in whole)
        low = high = None
        if drawn is not None:
            low, high = (float(x) for x in np.nanpercentile(drawn[1][:, place] - drawn[0][:, place], [2.5, 97.5]))
        found.append(Difference(name, unit, a, b, low, high, less_is_better=unit == "ms"))
    return tuple(found)


def block_weights(seconds: int, rounds: int, random: np.random.Generator) -> I64:
    """How often each second is drawn, (rounds, seconds), in blocks of about the cube root of `seconds`; circular."""
    length = max(1, round(seconds ** (1 / 3)))
    blocks = -(-seconds // length)
    starts = random.integers(0, seconds, (rounds, blocks))
    drawn = (starts[:, :, None] + np.arange(length)).reshape(rounds, -1)[:, :seconds] % seconds
    weights = np.zeros((rounds, seconds), np.int64)
    np.add.at(weights, (np.arange(rounds)[:, None], drawn), 1)
    return weights


class _Side:
    """The seconds of one run, ready to be weighted."""

    def __init__(self, outcome: Outcome) -> None:
        tally = outcome.tally
        self.seconds = max(1, min(len(tally.seconds), int(tally.measured_s + 1e-6)))
        used = sorted({int(i) for h in tally.second_latency.values() for i in np.flatnonzero(h.counts)}) or [0]
        self._counts = np.zeros((self.seconds, len(used)))
        self._sums_ns = np.zeros(self.seconds)
        for second, histogram in tally.second_latency.items():
            if second < self.seconds:
                self._counts[second] = histogram.counts[used]
                self._sums_ns[second] = histogram.sum_ns
        self._values_ns = (COARSE.lowest_ns[used] + COARSE.highest_ns[used]) / 2
        columns = [np.zeros(self.seconds)] * 3
        if len(tally.seconds):
            columns = [tally.column(name)[: self.seconds].astype(float) for name in ("offered", "hit", "completed")]
        self._offered, self._hit, self._completed = columns

    def figures(self, weights: F64 | I64) -> F64:
        """(rounds, figures) for weights (rounds, seconds)."""
        counts = weights.astype(np.float64) @ self._counts
        quantiles = quantiles_ns(counts, self._values_ns, tuple(QUANTILES.values())) / 1e6
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (weights @ self._sums_ns) / counts.sum(axis=1) / 1e6
            hit = 100 * (weights @ self._hit) / (weights @ self._offered)
        rate = (weights @ self._completed) / weights.sum(axis=1)
        return np.column_stack((quantiles, mean, hit, rate))


def table(differences: Sequence[Difference]) -> str:
    """For people: a row per figure, and what the statement rests on."""
    rows = [f"  {'':<12}{'A':>10}{'B':>10}{'change':>10}   {'95 % interval':<22}"]
    for each in differences:
        interval = "–" if each.low is None else f"{each.low:+.4g} … {each.high:+.4g}"
        rows.append(
            f"  {f'{each.name} {each.unit}':<12}{each.before:>10.4g}{each.after:>10.4g}{each.change:>+10.3g}   "
            f"{interval:<22}  {each.verdict}"
        )
    if any(each.low is None for each in differences):
        rows.append(f"  nothing is stated: both runs need {LEAST_SECONDS} seconds or more")
    else:
        rows.append(
            f"  moving-block bootstrap over seconds, {ROUNDS} draws, percentile intervals; each figure on its own "
            "at the 5 % level"
        )
    return "\n".join(rows)
