"""Owns the choice of a worker for one request: which are live, how soon each would answer. Reads no clock.

Power of two choices: of two workers drawn by lot the one that would answer sooner (Mitzenmacher, "The Power of Two
Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001). Whoever takes the least of all told waits sends every
edge to the same worker until it tells the next one.

    time to an answer = told wait, less the time since, + γ · (profiled times of what the telling missed, and of this)

γ is measured ÷ profiled time of that worker. A worker that is at its credit, so many requests of this edge under way,
is not drawn while another is not.
"""

from __future__ import annotations

import math
from collections.abc import Container, Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from splitmesh.schedule.ejection import Ejection

W = TypeVar("W", bound=Hashable)

SILENT_NS = 700_000_000
"""Three heartbeats and a half: such a worker gets nothing new."""
CREDITS = 4
_FORGET_NS = 60_000_000_000
_FADE_NS = 5_000_000_000
"""Without a reply γ goes back to that of the other drawn one, by half in this time: else nobody would ever ask a
worker that was slow once whether it still is."""
_WEIGHT = 0.2
_LEAST_MS = 0.01


class Basis(StrEnum):
    """Why this worker."""

    ONLY = "only"
    """No other is live."""
    TWO = "two"
    """The better of two."""
    FULL = "full"
    """All are at their credit; it is the least loaded."""
    TRIAL = "trial"
    """It was ejected, and this request tells whether it is well again."""


@dataclass(frozen=True, slots=True)
class Choice(Generic[W]):
    """`answer_ms`: predicted time from arrival to answer at the worker."""

    worker: W
    answer_ms: float
    basis: Basis


@dataclass(slots=True)
class _Sent:
    sent_ns: int
    profiled_ms: float


@dataclass(slots=True)
class _Worker:
    heard_ns: int = 0
    wait_ms: float = 0.0
    told_ns: int = 0
    counts_ns: int = 0
    """What was sent before is part of the told wait."""
    gamma_log: float = 0.0
    gamma_ns: int = 0
    samples: int = 0
    newest_ns: int = 0
    """When the newest of its answered requests was sent."""
    under_way: dict[str, _Sent] = field(default_factory=dict)


class WorkerChoice(Generic[W]):
    """One edge's view of the workers of one (model, sha256). `credits`: of its requests at one worker at a time;
    `ejection`: None ejects nobody. Times are monotonic ns."""

    def __init__(
        self, *, credits: int = CREDITS, silent_ns: int = SILENT_NS, ejection: Ejection[W] | None = None
    ) -> None:
        self._credits = credits
        self._silent_ns = silent_ns
        self._ejection = ejection
        self._workers: dict[W, _Worker] = {}

    # -- events ---------------------------------------------------------------------------------------------------

    def told(self, worker: W, wait_ms: float, now_ns: int, *, path_ms: float = 0.0) -> None:
        """A heartbeat or reply of `worker` says how long a request would wait there. path_ms: what a message takes
        to it and back; later requests are not counted in it."""
        known = self._workers.get(worker)
        if known is None:
            self._forget(now_ns)
            known = self._workers[worker] = _Worker()
        known.heard_ns = known.told_ns = now_ns
        if 0 <= wait_ms < math.inf:
            known.wait_ms = wait_ms
            known.counts_ns = now_ns - round(path_ms * 1e6)

    def gone(self, worker: W) -> None:
        """It drains, or nobody listens there: nothing new until it is heard again."""
        self._workers.pop(worker, None)
        if self._ejection is not None:
            self._ejection.forget(worker)

    def sent(self, worker: W, key: str, profiled_ms: float, now_ns: int) -> None:
        """A request goes to `worker`; `key` is one of a kind. One that was never heard is not kept account of."""
        if (known := self._workers.get(worker)) is not None:
            known.under_way[key] = _Sent(now_ns, profiled_ms)
        if self._ejection is not None:
            self._ejection.sent(worker, key, now_ns)

    def answered(self, worker: W, key: str, *, measured_ms: float, slowness: float, now_ns: int) -> None:
        """measured_ms: what the model and all around it took there, its queue apart. slowness: the request's whole
        time over what was expected of it."""
        sent = self._end(worker, key)
        if sent is not None:
            known = self._workers[worker]
            known.newest_ns = max(known.newest_ns, sent.sent_ns)
            self._measure(known, measured_ms, sent.profiled_ms, now_ns)
        if self._ejection is not None:
            self._ejection.answered(worker, key, slowness, now_ns)

    def refused(self, worker: W, key: str, *, budget_ms: float, now_ns: int) -> None:
        """It says that it can't answer within `budget_ms` of the arrival: what is not its queue must be its speed.
        Without this a worker too slow for anything would refuse at once, never be measured, and look idle."""
        sent = self._end(worker, key)
        if sent is not None and sent.profiled_ms >= _LEAST_MS:
            known = self._workers[worker]
            least_ms = budget_ms - known.wait_ms
            if least_ms > math.exp(known.gamma_log) * sent.profiled_ms:
                self._measure(known, least_ms, sent.profiled_ms, now_ns)
        if self._ejection is not None:
            self._ejection.undecided(worker, key)

    def failed(self, worker: W, key: str, now_ns: int) -> bool:
        """`worker` could not do it, or lied. True: it is ejected for that."""
        self._end(worker, key)
        return self._ejection is not None and self._ejection.failed(worker, key, len(self._workers), now_ns)

    def overdue(self, worker: W, key: str, now_ns: int) -> bool:
        """The deadline of a request passed without a reply, which stays under way. It is the worker's fault, and not
        the link's, if another has answered what was sent later: they share a link. True: it is ejected for that."""
        known = self._workers.get(worker)
        sent = known.under_way.get(key) if known is not None else None
        if self._ejection is None or sent is None:
            return False
        others = (other.newest_ns for name, other in self._workers.items() if name != worker)
        if max(others, default=0) <= sent.sent_ns:
            return False
        return self._ejection.failed(worker, key, len(self._workers), now_ns)

    def ended(self, worker: W, key: str) -> None:
        """It was given up, refused for reasons of its own, or lost on the way: no verdict on the worker."""
        self._end(worker, key)
        if self._ejection is not None:
            self._ejection.undecided(worker, key)

    # -- questions ------------------------------------------------------------------------------------------------

    def pick(
        self, profiled_ms: float, *, now_ns: int, draw: float, without: Container[W] = (), trial: bool = True
    ) -> Choice[W] | None:
        """The worker for a request whose service was profiled at `profiled_ms`; None if none is known to live.

        draw: a random number in [0, 1), of which both lots are made. without: not these. trial: this request may be
        the one that an ejected worker is tried with.
        """
        live = [w for w, known in self._workers.items() if w not in without and self._hears(known, now_ns)]
        if (ejection := self._ejection) is not None:
            due = next((w for w in live if ejection.due(w, now_ns)), None) if trial else None
            if due is not None:
                return Choice(due, self.answer_ms(due, profiled_ms, now_ns), Basis.TRIAL)
            live = [w for w in live if not ejection.out(w)] or live
        if not live:
            return None
        if len(live) == 1:
            return Choice(live[0], self.answer_ms(live[0], profiled_ms, now_ns), Basis.ONLY)
        free = [w for w in live if len(self._workers[w].under_way) < self._credits]
        drawn, basis = (_two_of(free, draw), Basis.TWO) if free else (live, Basis.FULL)
        return self._soonest(drawn, profiled_ms, now_ns, basis)

    def answer_ms(self, worker: W, profiled_ms: float, now_ns: int, *, beside: float | None = None) -> float:
        """Predicted time to an answer at `worker`, the way there and back apart. beside: ln γ to which its own fades,
        and which it has while nothing was measured."""
        known = self._workers[worker]
        left_ms = max(0.0, known.wait_ms - (now_ns - known.told_ns) / 1e6)
        new_ms = sum(sent.profiled_ms for sent in known.under_way.values() if sent.sent_ns >= known.counts_ns)
        return left_ms + math.exp(_gamma_log(known, now_ns, beside)) * (new_ms + max(profiled_ms, _LEAST_MS))

    def live(self, worker: W, now_ns: int) -> bool:
        """It was heard lately and is not ejected."""
        known = self._workers.get(worker)
        out = self._ejection is not None and self._ejection.out(worker)
        return known is not None and self._hears(known, now_ns) and not out

    def under_way(self, worker: W) -> int:
        known = self._workers.get(worker)
        return 0 if known is None else len(known.under_way)

    # -- within ---------------------------------------------------------------------------------------------------

    def _hears(self, known: _Worker, now_ns: int) -> bool:
        return now_ns - known.heard_ns <= self._silent_ns

    def _soonest(self, drawn: Sequence[W], profiled_ms: float, now_ns: int, basis: Basis) -> Choice[W]:
        """Of equals the first."""
        logs = [known.gamma_log for w in drawn if (known := self._workers[w]).samples]
        beside = min(logs, default=0.0)
        times_ms = [self.answer_ms(worker, profiled_ms, now_ns, beside=beside) for worker in drawn]
        least = min(range(len(drawn)), key=times_ms.__getitem__)
        return Choice(drawn[least], times_ms[least], basis)

    def _measure(self, known: _Worker, measured_ms: float, profiled_ms: float, now_ns: int) -> None:
        if not (0 < measured_ms < math.inf and profiled_ms >= _LEAST_MS):
            return
        known.samples += 1
        weight = max(_WEIGHT, 1 / known.samples)
        known.gamma_log += weight * (math.log(measured_ms / profiled_ms) - known.gamma_log)
        known.gamma_ns = now_ns

    def _end(self, worker: W, key: str) -> _Sent | None:
        known = self._workers.get(worker)
        return known.under_way.pop(key, None) if known is not None else None

    def _forget(self, now_ns: int) -> None:
        for worker in [w for w, known in self._workers.items() if now_ns - known.heard_ns > _FORGET_NS]:
            self.gone(worker)

    def __repr__(self) -> str:
        each = (f"{w}: {known.wait_ms:.0f} ms +{len(known.under_way)}" for w, known in self._workers.items())
        return f"<WorkerChoice {', '.join(each)}>"


def _gamma_log(known: _Worker, now_ns: int, beside: float | None) -> float:
    if beside is None:
        return known.gamma_log
    if not known.samples:
        return beside
    fresh: float = 0.5 ** (max(0, now_ns - known.gamma_ns) / _FADE_NS)
    return beside + (known.gamma_log - beside) * fresh


def _two_of(workers: Sequence[W], draw: float) -> Sequence[W]:
    """Two different ones in the order drawn, each pair as likely as any other; all of them if there are no more."""
    count = len(workers)
    if count == 1:
        return workers
    pair = min(int(draw * count * (count - 1)), count * (count - 1) - 1)
    first, second = divmod(pair, count - 1)
    return workers[first], workers[second + (second >= first)]
