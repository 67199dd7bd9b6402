"""Owns what is counted of a run: in bulk, in a form that adds up over processes and machines. Pure: no clock.

Conservation: every request that was offered in the measured time is settled in one of `OUTCOMES`.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

import numpy as np

from meshload.histogram import COARSE, FINE, I64, Histogram
from meshload.target import Status

OUTCOMES: Final = ("ok", "refused", "error", "timeout", "unsent")
UNSENT: Final = len(Status)
"""The outcome of a request that the schedule wanted, but for which there was no room until the end."""
_CODE: Final = {status: code for code, status in enumerate(Status)}
SECOND_COUNTS: Final = ("offered", "sent", "completed", "ok", "hit", "refused", "error", "timeout", "unsent",
                        "bytes_sent", "bytes_received")  # fmt: skip
_COLUMN: Final = {name: column for column, name in enumerate(SECOND_COUNTS)}


class Labels:
    """Numbers for words, so that a log can hold them."""

    def __init__(self) -> None:
        self._number: dict[tuple[Status, str], int] = {}
        self.keys: list[tuple[Status, str]] = []

    def number(self, status: Status, label: str) -> int:
        key = (status, label)
        found = self._number.get(key)
        if found is None:
            found = self._number[key] = len(self.keys)
            self.keys.append(key)
        return found


class Log:
    """What happened lately, as rows of numbers: cheap to write, read in bulk. Times in ns since the run's start."""

    SENT_COLUMNS: Final = 4
    """intended, lag (-1: it was held back by the bound on requests in flight), bytes, moment of sending."""
    SETTLED_COLUMNS: Final = 8
    """intended, sent, settled, label's number, bytes, deadline (0: none), tenant's number, server's µs (-1: unknown).
    """

    def __init__(self) -> None:
        self.sent = array("q")
        self.settled = array("q")

    def take(self) -> tuple[I64, I64]:
        """(sent (n, 4), settled (m, 8)) since the last call."""
        sent, self.sent = self.sent, array("q")
        settled, self.settled = self.settled, array("q")
        return (
            np.frombuffer(sent, np.int64).reshape(-1, self.SENT_COLUMNS),
            np.frombuffer(settled, np.int64).reshape(-1, self.SETTLED_COLUMNS),
        )


class Share:
    """What one tenant got."""

    def __init__(self) -> None:
        self.offered = self.ok = self.hit = 0
        self.latency = Histogram(FINE)


class Tally:
    """The counts of a run, its warm-up left out. `measured_s`: how long requests were offered and counted."""

    def __init__(self, measured_s: float) -> None:
        self.measured_s = measured_s
        self.latency = Histogram()
        """Of requests answered OK, from the intended send; and of those given up, until then, a lower bound."""
        self.service = Histogram()
        """Of requests answered OK, from the actual send."""
        self.server = Histogram()
        """What servers say they spent."""
        self.lag = Histogram()
        """The generator's own delay: actual minus intended send, of requests that were not held back."""
        self.held = 0
        """Requests that had to wait for room among those in flight."""
        self.warmup = 0
        self.labels: dict[str, dict[str, int]] = {"refused": {}, "error": {}, "timeout": {}, "unsent": {}}
        self.tenants: dict[str, Share] = {}
        self.seconds: I64 = np.zeros((0, len(SECOND_COUNTS)), np.int64)
        """Counts (seconds, `SECOND_COUNTS`) by the second of the intended send; `completed` by that of the answer."""
        self.second_latency: dict[int, Histogram] = {}
        """COARSE, by the second of the intended send, of what `latency` counts."""

    def count(self, name: str) -> int:
        """The total of one of `SECOND_COUNTS`."""
        return int(self.seconds[:, _COLUMN[name]].sum())

    def column(self, name: str) -> I64:
        """One of `SECOND_COUNTS`, per second."""
        found: I64 = self.seconds[:, _COLUMN[name]]
        return found

    def add_sent(self, rows: I64) -> None:
        """Count sends: rows as in `Log`, times since the end of the warm-up."""
        measured = rows[(rows[:, 0] >= 0)]
        self.warmup += len(rows) - len(measured)
        moment = rows[(rows[:, 3] >= 0) & (rows[:, 3] < self.measured_s * 1e9)]
        self._spread("sent", moment[:, 3])
        self._spread("bytes_sent", measured[:, 0], measured[:, 2])
        held = measured[:, 1] < 0
        self.held += int(held.sum())
        self.lag.record(measured[~held, 1])

    def add_settled(self, rows: I64, labels: Labels, tenants: list[str]) -> None:
        """Count outcomes: rows as in `Log`, times since the end of the warm-up."""
        status = np.array([_CODE[key[0]] for key in labels.keys], np.int64)[rows[:, 3]]
        moment = rows[(status == _CODE[Status.OK]) & (rows[:, 2] >= 0) & (rows[:, 2] < self.measured_s * 1e9)]
        self._spread("completed", moment[:, 2])
        kept = rows[:, 0] >= 0
        rows, status = rows[kept], status[kept]
        ok = status == _CODE[Status.OK]
        latency = rows[:, 2] - rows[:, 0]
        hit = ok & ((rows[:, 5] == 0) | (latency <= rows[:, 5]))
        self._spread("offered", rows[:, 0])
        self._spread("hit", rows[hit, 0])
        self._spread("bytes_received", rows[:, 0], rows[:, 4])
        for each, code in _CODE.items():
            self._spread(each.value, rows[status == code, 0])
        self._count_labels(rows[~ok, 3], labels)
        given_up = status == _CODE[Status.TIMEOUT]
        self._record(rows[ok | given_up, 0], latency[ok | given_up])
        self.service.record(rows[ok, 2] - rows[ok, 1])
        self.server.record(rows[ok & (rows[:, 7] >= 0), 7] * 1000)
        self._count_tenants(rows, latency, ok, hit, given_up, tenants)

    def add_unsent(self, rows: I64, end_ns: int, tenants: list[str]) -> None:
        """Count requests that found no room until `end_ns`: waited for at least until then, answered never.

        rows: (n, 2), intended send and tenant's number.
        """
        rows = rows[rows[:, 0] >= 0]
        intended = rows[:, 0]
        self._spread("offered", intended)
        self._spread("unsent", intended)
        if len(intended):
            found = self.labels["unsent"]
            found["no room in flight"] = found.get("no room in flight", 0) + len(intended)
            self._record(intended, end_ns - intended)
        for number in np.unique(rows[:, 1]):
            share = self.tenants.setdefault(tenants[int(number)], Share())
            share.offered += int((rows[:, 1] == number).sum())
            share.latency.record(end_ns - intended[rows[:, 1] == number])

    def add(self, other: Tally) -> None:
        """Count all that `other`, of the same time or of another machine, has counted."""
        self.measured_s = max(self.measured_s, other.measured_s)
        for mine, theirs in (
            (self.latency, other.latency),
            (self.service, other.service),
            (self.server, other.server),
            (self.lag, other.lag),
        ):
            mine.add(theirs)
        self.held += other.held
        self.warmup += other.warmup
        for outcome, found in other.labels.items():
            for label, count in found.items():
                self.labels[outcome][label] = self.labels[outcome].get(label, 0) + count
        for name, theirs_share in other.tenants.items():
            share = self.tenants.setdefault(name, Share())
            share.offered += theirs_share.offered
            share.ok += theirs_share.ok
            share.hit += theirs_share.hit
            share.latency.add(theirs_share.latency)
        self._reach(len(other.seconds))
        self.seconds[: len(other.seconds)] += other.seconds
        for second, histogram in other.second_latency.items():
            self.second_latency.setdefault(second, Histogram(COARSE)).add(histogram)

    def _record(self, intended: I64, latency: I64) -> None:
        self.latency.record(latency)
        second = intended // 1_000_000_000
        for each in np.unique(second):
            self.second_latency.setdefault(int(each), Histogram(COARSE)).record(latency[second == each])

    def _count_labels(self, numbers: I64, labels: Labels) -> None:
        for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
            status, label = labels.keys[int(number)]
            found = self.labels[status.value]
            found[label or status.value] = found.get(label or status.value, 0) + int(count)

    def _count_tenants(self, rows: I64, latency: I64, ok: Any, hit: Any, given_up: Any, tenants: list[str]) -> None:
        for number in np.unique(rows[:, 6]):
            theirs = rows[:, 6] == number
            share = self.tenants.setdefault(tenants[int(number)], Share())
            share.offered += int(theirs.sum())
            share.ok += int((ok & theirs).sum())
            share.hit += int((hit & theirs).sum())
            share.latency.record(latency[theirs & (ok | given_up)])

    def _spread(self, name: str, at_ns: I64, amounts: I64 | None = None) -> None:
        if not len(at_ns):
            return
        second = at_ns // 1_000_000_000
        counted = np.bincount(second, weights=amounts).astype(np.int64)
        self._reach(len(counted))
        self.seconds[: len(counted), _COLUMN[name]] += counted

    def _reach(self, seconds: int) -> None:
        missing = seconds - len(self.seconds)
        if missing > 0:
            self.seconds = np.vstack((self.seconds, np.zeros((missing, len(SECOND_COUNTS)), np.int64)))


def settle(log: Log, tally: Tally, labels: Labels, tenants: list[str], warmup_ns: int) -> None:
    """Move what `log` holds into `tally`."""
    sent, settled = (rows.copy() for rows in log.take())
    sent[:, (0, 3)] -= warmup_ns
    settled[:, :3] -= warmup_ns
    tally.add_sent(sent)
    if len(settled):
        tally.add_settled(settled, labels, tenants)


def rehearse() -> None:
    """Count something once, so that what numpy loads and prepares the first time does not happen during a run."""
    log, tally, labels = Log(), Tally(1.0), Labels()
    numbers = [labels.number(status, "") for status in Status]
    for n in range(64):
        log.sent.extend((n, n, 1, n))
        log.settled.extend((n, n, n * 1000, numbers[n % len(numbers)], 1, 1, 0, 1))
    settle(log, tally, labels, [""], 0)
    for histogram in (tally.latency, *tally.second_latency.values()):
        histogram.quantile_ms(0.99)
