"""Owns which worker has which stream: chosen once, when the stream opens, in turn among those heard. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from splitmesh.errors import WireError

MAX_HOMES: Final = 65_536
"""Streams that are remembered; the least recently used are forgotten. A worker holds 256."""


class Home(NamedTuple):
    """Where a stream goes, and the id that it has there."""

    worker: str
    stream: int


class Homes:
    """The streams of one run, by the number that its payloads name."""

    def __init__(self) -> None:
        self._workers: list[str] = []
        self._homes: OrderedDict[int, Home] = OrderedDict()
        self._opened = 0

    def add_worker(self, worker: str) -> None:
        if worker not in self._workers:
            self._workers.append(worker)

    def open(self, number: int, fresh: int) -> Home:
        """The home of stream `number`; a stream that has none gets the next worker and the id `fresh`.

        Raises WireError without any worker.
        """
        found = self.find(number)
        if found is None:
            if not self._workers:
                raise WireError("no worker is known that could have a stream")
            found = self._homes[number] = Home(self._workers[self._opened % len(self._workers)], fresh)
            self._opened += 1
            if len(self._homes) > MAX_HOMES:
                self._homes.popitem(last=False)
        return found

    def find(self, number: int) -> Home | None:
        """None: it was never opened, or its worker has gone."""
        found = self._homes.get(number)
        if found is not None:
            self._homes.move_to_end(number)
        return found

    def lose(self, number: int) -> None:
        """Nobody listens where this stream goes: its worker gets no more, what it had is lost."""
        lost = self._homes.get(number)
        if lost is None:
            return
        self._workers = [worker for worker in self._workers if worker != lost.worker]
        for each in [each for each, home in self._homes.items() if home.worker == lost.worker]:
            del self._homes[each]
