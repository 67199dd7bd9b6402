"""Sending on time: never early, in order, none left out, never more on their way than there is room for."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import pytest

from meshload.alarm import Alarm
from meshload.arrivals import Arrival
from meshload.errors import LoadError
from meshload.pacer import Pacer
from meshload.target import Status

MS = 1_000_000


class Sink:
    """Takes what is sent, and keeps it on its way until it is told to let go."""

    def __init__(self, *, keeps: bool) -> None:
        self.start_ns = time.monotonic_ns()
        self.in_flight = 0
        self.most = 0
        self.sent: list[tuple[int, int, bool]] = []
        self._keeps = keeps
        self.progress = asyncio.Event()

    def send(self, arrival: Arrival, now_ns: int, *, held: bool) -> None:
        self.sent.append((arrival.at_ns, now_ns, held))
        self.in_flight += self._keeps
        self.most = max(self.most, self.in_flight)
        self.progress.set()

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.sent) < count:
                self.progress.clear()
                await self.progress.wait()


@pytest.mark.parametrize("gap_ns", [0, 10_000, 3 * MS])
async def test_each_leaves_in_its_turn_and_not_before_its_time(gap_ns: int) -> None:
    sink = Sink(keeps=False)
    pacer = Pacer(sink, 10, iter([Arrival(5 * MS + n * gap_ns) for n in range(200 if gap_ns < MS else 20)]))
    pacer.pump()
    assert not sink.sent
    await sink.wait_for(200 if gap_ns < MS else 20)
    pacer.close()
    assert pacer.exhausted and [at for at, _, _ in sink.sent] == sorted(at for at, _, _ in sink.sent)
    assert all(now >= at and not held for at, now, held in sink.sent)


async def test_a_schedule_that_breaks_ends_there_and_says_why() -> None:
    def broken() -> Iterator[Arrival]:
        yield Arrival(0)
        yield Arrival(MS)
        raise LoadError("the file is damaged")

    sink = Sink(keeps=False)
    pacer = Pacer(sink, 10, broken())
    pacer.pump()
    await sink.wait_for(2)
    assert pacer.exhausted and str(pacer.failure) == "the file is damaged" and pacer.finish(10 * MS) == []
    pacer.close()


async def test_what_finds_no_room_waits_for_it_and_is_marked() -> None:
    sink = Sink(keeps=True)
    pacer = Pacer(sink, 3, iter([Arrival(n) for n in range(10)]))
    pacer.pump()
    assert len(sink.sent) == 3
    for _ in range(4):
        sink.in_flight -= 1
        pacer.on_room(Status.OK)
    assert [held for _, _, held in sink.sent] == [False] * 3 + [True] * 4 and sink.most == 3
    sink.in_flight -= 1
    assert [arrival.at_ns for arrival in pacer.finish(9)] == [8] and len(sink.sent) == 8
    pacer.close()


@pytest.mark.parametrize("platform", [sys.platform, "elsewhere"])
async def test_an_alarm_rings_once_at_the_last_time_that_was_set(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    rang: list[int] = []
    event = asyncio.Event()

    def ring() -> None:
        rang.append(time.monotonic_ns())
        event.set()

    alarm = Alarm(ring)
    monkeypatch.undo()
    at_ns = time.monotonic_ns() + 30 * MS
    alarm.set(at_ns - 25 * MS)
    alarm.set(at_ns)
    await asyncio.wait_for(event.wait(), 20)
    event.clear()
    alarm.set(0)
    await asyncio.wait_for(event.wait(), 20)
    assert len(rang) == 2 and rang[0] >= at_ns - 2 * MS
    alarm.set(time.monotonic_ns() + 5 * MS)
    alarm.clear()
    alarm.close()
    await asyncio.sleep(0)
    assert len(rang) == 2
