"""Owns which workers get nothing for a while because they failed or were far slower than the others. Reads no clock.

Outlier ejection as in Envoy ("Outlier detection", envoyproxy.io): consecutive failures, or a time far beyond the
median of the others, put a worker out, for longer each time, but never more than a share of the pool. Afterwards one
request is its trial: an answer brings it back; a failure, or one as late as before, puts it out again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

W = TypeVar("W", bound=Hashable)

_WEIGHT = 0.3
_LEAST_SAMPLES = 4
_MOST_LOG = 7.0
_FORGIVE_NS = 60_000_000_000
"""So long without another ejection, and the next is short again."""


@dataclass(frozen=True, slots=True)
class EjectionRules:
    """failures: in a row that put a worker out. slower: so many times the median slowness of the others do, too.
    first_ns: of a first ejection; each further one lasts twice as long, `longest_ns` at most. share: of the pool that
    may be out at a time, (0, 1]; one worker may be where there are two."""

    failures: int = 3
    slower: float = 5.0
    first_ns: int = 1_000_000_000
    longest_ns: int = 30_000_000_000
    share: float = 0.5


@dataclass(slots=True)
class _Record:
    failures: int = 0
    slow_log: float = 0.0
    samples: int = 0
    times: int = 0
    until_ns: int | None = None
    """Out at least until then; None: it is in."""
    back_ns: int = 0
    trial: str = ""
    """Key of the request that it is tried with."""
    charged: str = ""
    """Key of the request that failed last: one is counted once."""


class Ejection(Generic[W]):
    """Hears how requests end; `key` is one of a kind among those under way. Times are monotonic ns."""

    def __init__(self, rules: EjectionRules = EjectionRules()) -> None:
        self._rules = rules
        self._records: dict[W, _Record] = {}
        self.ejections = 0
        """That there have been."""

    # -- events ---------------------------------------------------------------------------------------------------

    def sent(self, worker: W, key: str, now_ns: int) -> None:
        if self.due(worker, now_ns):
            self._records[worker].trial = key

    def answered(self, worker: W, key: str, slowness: float, now_ns: int) -> None:
        """slowness: its whole time over what was expected. What was sent before an ejection ends none."""
        record = self._records.setdefault(worker, _Record())
        if record.until_ns is not None:
            if record.trial == key:
                self._judge(worker, record, slowness, now_ns)
            return
        if record.charged != key:
            record.failures = 0
        if not 0 < slowness < math.inf:
            return
        record.samples += 1
        weight = max(_WEIGHT, 1 / record.samples)
        record.slow_log += weight * (_log(slowness) - record.slow_log)
        if record.samples >= _LEAST_SAMPLES and self._far_out(worker, record.slow_log):
            self._eject(worker, len(self._records), now_ns)

    def failed(self, worker: W, key: str, pool: int, now_ns: int) -> bool:
        """True: it is out for that. pool: workers that there are."""
        record = self._records.setdefault(worker, _Record())
        if record.until_ns is not None:
            if record.trial == key:
                record.trial = ""
                self._put_out(record, now_ns)
            return False
        if record.charged == key:
            return False
        record.charged = key
        record.failures += 1
        return record.failures >= self._rules.failures and self._eject(worker, pool, now_ns)

    def undecided(self, worker: W, key: str) -> None:
        """The request ended without telling anything of the worker: another may be the trial."""
        record = self._records.get(worker)
        if record is not None and record.trial == key:
            record.trial = ""

    def forget(self, worker: W) -> None:
        """It is gone; who comes back under its name begins anew."""
        self._records.pop(worker, None)

    # -- questions ------------------------------------------------------------------------------------------------

    def out(self, worker: W) -> bool:
        record = self._records.get(worker)
        return record is not None and record.until_ns is not None

    def due(self, worker: W, now_ns: int) -> bool:
        """Its time is over, and no trial is under way."""
        record = self._records.get(worker)
        return record is not None and record.until_ns is not None and record.until_ns <= now_ns and not record.trial

    # -- within ---------------------------------------------------------------------------------------------------

    def _judge(self, worker: W, record: _Record, slowness: float, now_ns: int) -> None:
        """Its trial was answered: back, unless it is as slow as ever."""
        record.trial = ""
        if slowness > 0 and self._far_out(worker, _log(slowness)):
            self._put_out(record, now_ns)
            return
        record.until_ns, record.back_ns, record.charged = None, now_ns, ""
        record.failures = record.samples = 0
        record.slow_log = 0.0

    def _far_out(self, worker: W, slow_log: float) -> bool:
        others = [
            other.slow_log
            for name, other in self._records.items()
            if name != worker and other.samples >= _LEAST_SAMPLES
        ]
        return bool(others) and slow_log > statistics.median(others) + math.log(self._rules.slower)

    def _eject(self, worker: W, pool: int, now_ns: int) -> bool:
        """False: too many are out already, or it is alone."""
        out = sum(record.until_ns is not None for record in self._records.values())
        if pool < 2 or out + 1 > max(1, math.floor(self._rules.share * pool)):
            return False
        record = self._records[worker]
        if now_ns - record.back_ns > _FORGIVE_NS:
            record.times = 0
        self._put_out(record, now_ns)
        return True

    def _put_out(self, record: _Record, now_ns: int) -> None:
        self.ejections += 1
        lasts_ns = min(self._rules.first_ns * 2 ** min(record.times, 30), self._rules.longest_ns)
        record.times += 1
        record.until_ns = now_ns + lasts_ns


def _log(slowness: float) -> float:
    return min(max(math.log(slowness), -_MOST_LOG), _MOST_LOG)
