"""Owns putting load on a target: what is sent when, what is on its way, what became of it. Refuses to summarise.

Open loop: requests leave when the schedule says, whatever the server does; latency counts from that moment, so that
a server that stalls can't hide it (coordinated omission). Closed loop: each of `in_flight` callers sends its next
request when it has its answer. One loop, one process; see `processes` for more.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from random import Random

import numpy as np

from meshload.arrivals import Arrival
from meshload.pacer import Pacer
from meshload.tally import Labels, Log, Tally, settle
from meshload.target import Payload, Reply, Request, Status, Target

_SWEEP_S = 0.05
_LOST_S = 1.0
_SAMPLED = b"\x01"


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a run."""

    warmup_s: float
    measured_s: float
    in_flight: int
    timeout_s: float
    """The engine's patience with one request, from its send."""

    @property
    def end_ns(self) -> int:
        return round((self.warmup_s + self.measured_s) * 1e9)


class Engine:
    """One run in one process. `tally` is up to date after `run`, and between `collect`s behind by what `log` holds.

    Not for a second run. Conservation: what the schedule offered is settled once, when `run` returns.
    """

    def __init__(self, target: Target, payloads: Sequence[Payload], limits: Limits, *, traced: float = 0.0) -> None:
        """traced: the share of requests that carry a trace context of their own, sampled."""
        self.target, self.limits = target, limits
        self.tally = Tally(limits.measured_s)
        self._payloads: Iterator[Payload] = cycle(payloads)
        self._labels = Labels()
        self._tenants: dict[str, int] = {}
        self._log = Log()
        self._waiting: dict[Request, None] = {}
        """On their way, the oldest first."""
        self._run = secrets.token_hex(4)
        self._seq = 0
        self._traced, self._random = traced, Random()
        self.start_ns = 0
        """Of `time.monotonic_ns`; times without a name to the contrary count from here."""
        self._timeout_ns = round(limits.timeout_s * 1e9)
        self._on_room: Callable[[Status], None] = _nothing
        self._changed = asyncio.Event()
        self.stopped = False
        self.cpu_s = 0.0
        """CPU time that this process spent in the measured time; its length is `wall_s`."""
        self.wall_s = 0.0
        self.last_trouble: tuple[float, str] | None = None
        """(seconds into the measured time, label) of the last error."""
        self._last_ok_ns = 0

    @property
    def lost(self) -> bool:
        """Errors went on for a second after the last good answer: the target was gone when the run ended."""
        last_ok_s = self._last_ok_ns / 1e9 - self.limits.warmup_s
        return self.last_trouble is not None and self.last_trouble[0] - last_ok_s > _LOST_S

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    @property
    def uncounted(self) -> int:
        """Answers that `collect` has not counted yet."""
        return len(self._log.settled) // Log.SETTLED_COLUMNS

    def stop(self) -> None:
        """End the run now: what is on its way is waited for no longer. Keeps what was counted."""
        self.stopped = True
        self._changed.set()

    def take(self) -> Tally:
        """What was counted since the last call, which the engine then forgets. All of them add up to the run's."""
        taken, self.tally = self.collect(), Tally(self.limits.measured_s)
        return taken

    def collect(self) -> Tally:
        """The tally, with all that happened until now."""
        settle(self._log, self.tally, self._labels, list(self._tenants), round(self.limits.warmup_s * 1e9))
        return self.tally

    async def run_open(self, arrivals: Iterator[Arrival], *, start_ns: int | None = None) -> None:
        """Send each of `arrivals`, times counted from `start_ns` of `time.monotonic_ns` (None: now).

        Raises what `arrivals` raises, once what was on its way is settled.
        """
        self._start(start_ns)
        pacer = Pacer(self, self.limits.in_flight, arrivals)
        self._on_room = pacer.on_room
        try:
            pacer.pump()
            await self._until_end(lambda: pacer.exhausted)
            end_ns = min(self.now_ns(), self.limits.end_ns)
            unsent = [] if self.stopped else pacer.finish(end_ns)
        finally:
            pacer.close()
            self._on_room = _nothing
        await self._drain()
        self._finish(unsent, end_ns)
        if pacer.failure:
            raise pacer.failure

    async def run_closed(
        self, *, tenants: Sequence[str] = ("",), deadline_ns: int = 0, start_ns: int | None = None
    ) -> None:
        """Keep `in_flight` requests on their way until the end of the measured time.

        A caller whose request met an error waits for up to 50 ms, so that a dead server is not asked in a tight loop.
        """
        self._start(start_ns)
        await self._pause(max(0, -self.now_ns()) / 1e9)
        names = cycle(tenants)

        def fill(status: Status) -> None:
            if status is Status.ERROR or self.stopped:
                return
            for _ in range(self.limits.in_flight - len(self._waiting)):
                at_ns = self.now_ns()
                if at_ns >= self.limits.end_ns:
                    break
                self.send(Arrival(at_ns, next(names), "meshload", deadline_ns), at_ns, held=False)

        self._on_room = fill
        fill(Status.OK)
        await self._until_end(lambda: False)
        self._on_room = _nothing
        await self._drain()
        self._finish([], 0)

    def now_ns(self) -> int:
        """Since the start of the run."""
        return time.monotonic_ns() - self.start_ns

    def send(self, arrival: Arrival, now_ns: int, *, held: bool) -> None:
        """Hand one request to the target. `held`: it had to wait for room."""
        start = self.start_ns
        request = Request(
            arrival.payload or next(self._payloads),
            self._seq,
            self._run,
            start + arrival.at_ns,
            arrival.deadline_ns,
            arrival.tenant,
            arrival.edge,
        )
        if self._traced and self._random.random() < self._traced:
            request.trace = self._random.randbytes(24) + _SAMPLED
        self._seq += 1
        request.sent_ns = start + now_ns
        self._waiting[request] = None
        size = self.target.send(request, self._done)
        lag_ns = -1 if held else max(0, now_ns - arrival.at_ns)
        self._log.sent.extend((arrival.at_ns, lag_ns, size, now_ns))

    def _done(self, request: Request, reply: Reply) -> None:
        if request not in self._waiting:
            return
        del self._waiting[request]
        self._settle(request, reply, time.monotonic_ns())
        self._on_room(reply.status)

    def _settle(self, request: Request, reply: Reply, now_ns: int) -> None:
        start = self.start_ns
        tenant = self._tenants.setdefault(request.tenant, len(self._tenants))
        server_us = -1 if reply.server_ms is None else int(reply.server_ms * 1000)
        label = self._labels.number(reply.status, reply.label)
        self._log.settled.extend(
            (
                request.intended_ns - start,
                request.sent_ns - start,
                now_ns - start,
                label,
                reply.bytes_received,
                request.deadline_ns,
                tenant,
                server_us,
            )
        )
        if reply.status is Status.ERROR:
            self.last_trouble = ((now_ns - start) / 1e9 - self.limits.warmup_s, reply.label)
        elif reply.status is Status.OK:
            self._last_ok_ns = now_ns - start

    def _start(self, start_ns: int | None) -> None:
        self.start_ns = time.monotonic_ns() if start_ns is None else start_ns
        self._cpu_start_s = time.process_time()

    async def _until_end(self, exhausted: Callable[[], bool]) -> None:
        """Until the end of the measured time, or of the schedule; gives up on requests that take too long."""
        warm = False
        while not self.stopped and (left_ns := self.limits.end_ns - self.now_ns()) > 0:
            if not warm and self.now_ns() >= self.limits.warmup_s * 1e9:
                warm = True
                self._cpu_start_s, self._warm_ns = time.process_time(), self.now_ns()
            if exhausted() and not self._waiting:
                break
            await self._pause(min(_SWEEP_S, left_ns / 1e9))
            self._give_up()
        begun_ns = self._warm_ns if warm else 0
        self.wall_s = max(1e-9, (self.now_ns() - begun_ns) / 1e9)
        self.cpu_s = time.process_time() - self._cpu_start_s

    async def _drain(self) -> None:
        until_ns = time.monotonic_ns() + self._timeout_ns
        while self._waiting and not self.stopped and time.monotonic_ns() < until_ns:
            await self._pause(_SWEEP_S / 5)
            self._give_up()

    async def _pause(self, seconds: float) -> None:
        self._changed.clear()
        if self.stopped:
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._changed.set)
        await self._changed.wait()
        timer.cancel()

    def _give_up(self) -> None:
        now_ns = time.monotonic_ns()
        late = []
        for request in self._waiting:
            if now_ns - request.sent_ns < self._timeout_ns:
                break
            late.append(request)
        self._abandon(late, "no answer")
        self._on_room(Status.TIMEOUT)

    def _abandon(self, requests: Sequence[Request], label: str) -> None:
        now_ns = time.monotonic_ns()
        for request in requests:
            del self._waiting[request]
            self.target.abandon(request)
            self._settle(request, Reply(Status.TIMEOUT, label), now_ns)

    def _finish(self, unsent: Sequence[Arrival], end_ns: int) -> None:
        if self.stopped:
            self.tally.measured_s = min(self.limits.measured_s, max(1e-3, self.now_ns() / 1e9 - self.limits.warmup_s))
        self._abandon(list(self._waiting), "interrupted" if self.stopped else "no answer")
        tally = self.collect()
        if unsent:
            warmup_ns = round(self.limits.warmup_s * 1e9)
            rows = [(a.at_ns - warmup_ns, self._tenants.setdefault(a.tenant, len(self._tenants))) for a in unsent]
            tally.add_unsent(np.array(rows, np.int64), end_ns - warmup_ns, list(self._tenants))


def _nothing(_: Status) -> None:
    return None
