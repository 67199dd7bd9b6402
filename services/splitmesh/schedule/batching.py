"""Owns how many jobs of one key run together, and when their batch closes. Holds no job, reads no clock.

A key is all that must agree for jobs to share a run: model, cut, shape and version. A batch closes at the latest at
`d_min - l(b) - margin`: the earliest deadline in it, less the 95th percentile of the run time at its size. Before
that it closes as soon as a server is free, as in Clipper (Crankshaw et al., NSDI 2017, 4.3): while all are busy,
batches fill by themselves. A free server is left waiting only where the next job, by the gaps of late, comes so soon
that those in the batch and it end earlier on average than one after the other (`pays_ns`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

MEMORY_NS = 10_000_000_000
"""A size that has not run for so long is predicted from the others again: else one bad run would rule it out."""
_LEAST_GAIN = 0.03
"""By how much less time per job a larger batch must take: below is noise, and who waits for it waits for nothing."""
_GAP_WEIGHT = 0.1


class _Window:
    """Run times of one size: the latest `most`, none older than `MEMORY_NS`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: deque[tuple[int, int]] = deque()
        self._sorted: list[int] = []

    def add(self, taken_ns: int, now_ns: int) -> None:
        self._seen.append((now_ns, taken_ns))
        insort(self._sorted, taken_ns)
        if len(self._seen) > self._most:
            self._drop()

    def p95_ns(self, now_ns: int) -> int | None:
        while self._seen and self._seen[0][0] < now_ns - MEMORY_NS:
            self._drop()
        return self._sorted[min(len(self._sorted) - 1, int(0.95 * len(self._sorted)))] if self._sorted else None

    def _drop(self) -> None:
        _, taken_ns = self._seen.popleft()
        del self._sorted[bisect_left(self._sorted, taken_ns)]


class BatchTimes:
    """l(b) of one key, nanoseconds: 95th percentile of the time that a batch of b takes, for b in 1 … `most`.

    first_ns: what warm-up measured, by size; size 1 must be among them. Raises ValueError if it is not.
    """

    def __init__(self, first_ns: Mapping[int, int], *, most: int, window: int = 64) -> None:
        if 1 not in first_ns or most < 1:
            raise ValueError("run times must be known for single jobs, and a batch holds one at least")
        self.most = most
        self._sizes = sorted(first_ns)
        self._first = [max(1, first_ns[size]) for size in self._sizes]
        self._windows = {size: _Window(window) for size in range(1, most + 1)}

    def observe(self, size: int, taken_ns: int, now_ns: int) -> None:
        self._windows[size].add(max(1, taken_ns), now_ns)

    def curve_ns(self, now_ns: int) -> list[int]:
        """l(1), l(2) … l(most). It never falls: a larger batch that took less says that the smaller can too, but
        promises are made for the slower.

        A size that has not run of late has what warm-up said, times what the next smaller one that ran takes now of
        what warm-up said of it. If none did, it is trusted to take what it took: so smaller batches are tried again
        where larger ones turn out slow.
        """
        drift = 1.0
        curve: list[int] = []
        for size, window in self._windows.items():
            warm_ns = self._warm(size)
            taken_ns = window.p95_ns(now_ns)
            if taken_ns is None:
                taken_ns = round(max(1.0, drift * warm_ns))
            else:
                drift = taken_ns / warm_ns
            curve.append(max(taken_ns, curve[-1]) if curve else taken_ns)
        return curve

    def _warm(self, size: int) -> float:
        """By warm-up: between measured sizes in a straight line, beyond them as much per job as the largest."""
        place = bisect_right(self._sizes, size) - 1
        below, taken = self._sizes[place], self._first[place]
        if place + 1 == len(self._sizes):
            return taken * size / below
        return taken + (self._first[place + 1] - taken) * (size - below) / (self._sizes[place + 1] - below)


def best_size(curve_ns: Sequence[int]) -> int:
    """The batch of least time per job, by `curve_ns` = l(1), l(2) …; the smaller of those that hardly differ."""
    best = 1
    for size, taken_ns in enumerate(curve_ns, 1):
        if taken_ns / size < (1 - _LEAST_GAIN) * curve_ns[best - 1] / best:
            best = size
    return best


def worthwhile_size(taken_ns: Mapping[int, int]) -> int:
    """The largest size at which jobs that wait together end no later on average in one batch than one after another,
    by `taken_ns` of each size that was tried, 1 among them; 1: let each run by itself.

    Together all b end at l(b); one after the other the i-th ends at i * l(1), on average at l(1) * (b + 1) / 2. Below
    that a batch only pays by what it saves those behind it, at the price of those in it.
    """
    alone_ns = taken_ns[1]
    return max(size for size, taken in taken_ns.items() if 2 * taken <= alone_ns * (size + 1))


def pays_ns(curve_ns: Sequence[int], waiting: int) -> float:
    """How soon another job must come for those `waiting` and it to end earlier on average in one batch than in two.

    Together all n + 1 end at gap + l(n+1); else n end at l(n), the last at l(n) + l(1). Negative: never.
    """
    together, now, alone = curve_ns[waiting], curve_ns[waiting - 1], curve_ns[0]
    return now + alone / (waiting + 1) - together


@dataclass(frozen=True, slots=True)
class Batch:
    """size: how many of those that wait to run now; 0: none before `hold_until_ns`, unless another one comes.

    cost_ns: l(size), for which the server is taken.
    """

    size: int
    cost_ns: int
    hold_until_ns: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `fair.FairQueue.push` is told of a job that will be one of a batch.

    cost_ns: its part, l(b) / b; alone_ns: l(1), so that it is dropped when not even alone it could make it; slack_ns:
    what its batch takes longer than that.
    """

    cost_ns: int
    alone_ns: int
    slack_ns: int


class Batcher:
    """The batches of every key on one worker. margin_ns: how much earlier than a deadline a run must end.

    For a newcomer: `estimate`, `FairQueue.push` with it, `arrived`. While a server is free: `FairQueue.head`,
    `decide`, `pop_batch` of that size and cost; or, where none closes yet, the same again without that key, and once
    more at `hold_until_ns`. After a run: `observe`, and `FairQueue.done` for each job.
    """

    def __init__(self, *, margin_ns: int = 0) -> None:
        self.margin_ns = margin_ns
        self._times: dict[Hashable, BatchTimes] = {}
        self._gaps: dict[Hashable, tuple[int, float | None]] = {}

    def host(self, key: Hashable, times: BatchTimes) -> None:
        """Jobs of `key` may come from now on."""
        self._times[key] = times

    def drop(self, key: Hashable) -> None:
        """No more jobs of `key` come."""
        self._times.pop(key, None)
        self._gaps.pop(key, None)

    def arrived(self, key: Hashable, now_ns: int) -> None:
        """Every job counts that was admitted. Raises KeyError for a key that is not hosted."""
        if key not in self._times:
            raise KeyError(key)
        before = self._gaps.get(key)
        gap: float | None = None
        if before is not None:
            seen_ns, mean = before
            late_ns = max(0, now_ns - seen_ns)
            gap = float(late_ns) if mean is None else mean + _GAP_WEIGHT * (late_ns - mean)
        self._gaps[key] = (now_ns, gap)

    def observe(self, key: Hashable, size: int, taken_ns: int, now_ns: int) -> None:
        """A batch of `key` took so long. Nothing happens for a key that is no longer hosted."""
        times = self._times.get(key)
        if times is not None:
            times.observe(size, taken_ns, now_ns)

    def estimate(self, key: Hashable, waiting: int, now_ns: int) -> Estimate:
        """Of a newcomer behind `waiting` others of its key. Raises KeyError for a key that is not hosted."""
        curve = self._times[key].curve_ns(now_ns)
        size = best_size(curve[: waiting + 1])
        taken_ns, alone_ns = curve[size - 1], curve[0]
        return Estimate(max(1, taken_ns // size), alone_ns, taken_ns - alone_ns)

    def decide(self, key: Hashable, deadlines_ns: Sequence[int], now_ns: int, *, hold: bool = True) -> Batch:
        """A server is free: how many of those that wait under `key` run now, in the order of `deadlines_ns`?

        hold: it may be left free for one more to come.

        deadlines_ns: as `fair.Head` has them, at least one. A batch that would be late is made smaller, down to the
        first alone: whether that one can make it was the queue's question. Raises KeyError for a key that is not
        hosted.
        """
        curve = self._times[key].curve_ns(now_ns)
        size = best_size(curve[: len(deadlines_ns)])
        while size > 1 and now_ns + curve[size - 1] + self.margin_ns > min(deadlines_ns[:size]):
            size -= 1
        if hold and size == len(deadlines_ns) < len(curve):
            until_ns = self._hold_until_ns(key, curve, deadlines_ns, now_ns)
            if until_ns > now_ns:
                return Batch(0, 0, until_ns)
        return Batch(size, curve[size - 1])

    def _hold_until_ns(self, key: Hashable, curve: Sequence[int], deadlines_ns: Sequence[int], now_ns: int) -> int:
        """Until when a free server should wait for one job more; `now_ns` or before: not at all."""
        seen_ns, gap = self._gaps.get(key, (now_ns, None))
        pays = pays_ns(curve, len(deadlines_ns))
        if gap is None or gap >= pays:
            return now_ns
        closes_ns = min(deadlines_ns) - curve[len(deadlines_ns)] - self.margin_ns
        return min(closes_ns, seen_ns + int(pays))
