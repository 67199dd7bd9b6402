"""The simulated stream against the edge's own, step by step: whatever happens, both do the same."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.edge.streams import EdgeStream, End, NotSent, StreamFrame
from splitmesh.policy.payloads import Reference
from splitmesh.sim.streams import Coded, Stream

sys.path.append(str(Path(__file__).parent))
from sim_values import H264, TEMPORAL


@dataclass(frozen=True)
class Made:
    number: int
    key: bool
    level: int
    payload: bytes = b"x"


class Encoder:
    """Codes nothing; knows what each payload would build on. chained: on the one before, acknowledged or not."""

    def __init__(self, *, chained: bool) -> None:
        self._chained = chained
        self._under_way: list[int] = []
        self._reference: int | None = None
        self._count = 0
        self.bases: dict[int, int | None] = {}

    def encode(self, content: Any, *, level: int, limit_bytes: float) -> Made:
        self._count += 1
        self.bases[self._count] = self._reference
        self._under_way.append(self._count)
        if self._chained:
            self._reference = self._count
        return Made(self._count, self.bases[self._count] is None, level)

    def acknowledged(self, number: int) -> None:
        if number in self._under_way and not self._chained:
            self._reference = number
            self._under_way = [each for each in self._under_way if each > number]

    def lost(self, number: int) -> None:
        if self._chained:
            self.reset()
        elif number in self._under_way:
            self._under_way.remove(number)

    def reset(self) -> None:
        self._reference = None
        self._under_way = []


class Both:
    """One stream of each kind, to which the same happens."""

    def __init__(self, *, chained: bool) -> None:
        self.encoder = Encoder(chained=chained)
        self.told: tuple[list[Reference], list[Reference]] = ([], [])
        self.real = EdgeStream(lambda: self.encoder, chained=chained, tell=self.told[0].append)
        self.made = Stream(0, chained=chained, tell=self.told[1].append)
        self.point = H264 if chained else TEMPORAL
        self.under_way: list[tuple[StreamFrame, Coded]] = []

    def code(self) -> None:
        try:
            self.real.check_room()
        except NotSent:
            assert self.made.full
            return
        assert not self.made.full
        try:
            real = self.real.code(None, self.point.level)
        except NotSent:
            assert self.made.awaits_key
            return
        assert not self.made.awaits_key
        made = self.made.code(self.point, 1.0, inf)
        assert (made.number, made.base) == (real.number, self.encoder.bases[real.number])
        assert (made.base is None, made.trusted) == (real.key, real.trusted)
        assert self.made.send(made)
        assert self.real.send(real) == ("" if self.made.home < 0 else str(self.made.home))
        self.under_way.append((real, made))

    def end(self, which: int, end: End, worker: int, now_ns: int) -> None:
        if not self.under_way:
            return
        real, made = self.under_way.pop(which % len(self.under_way))
        self.real.ended(real, end, str(worker) if worker >= 0 else "", now_ns)
        if end is End.ANSWERED:
            self.made.answered(made, worker, now_ns)
        else:
            self.made.lost(made, broken=end is End.BROKEN, refused=worker >= 0)

    def overdue(self, which: int) -> None:
        if self.under_way:
            real, made = self.under_way[which % len(self.under_way)]
            self.real.overdue(real)
            self.made.overdue(made)

    def reset(self) -> None:
        self.real.reset()
        self.made.reset()

    def check(self) -> None:
        assert self.real.home == ("" if self.made.home < 0 else str(self.made.home))
        assert self.told[0] == self.told[1]


steps = st.lists(
    st.one_of(
        st.just(("code",)),
        st.just(("code",)),
        st.tuples(st.just("end"), st.integers(0, 1), st.just(End.ANSWERED), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 1), st.just(End.ANSWERED), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 20), st.just(End.ANSWERED), st.integers(0, 1)),
        st.tuples(st.just("end"), st.integers(0, 20), st.just(End.REFUSED), st.integers(-1, 1)),
        st.tuples(st.just("end"), st.integers(0, 20), st.just(End.BROKEN), st.integers(-1, 1)),
        st.tuples(st.just("overdue"), st.integers(0, 20)),
        st.just(("reset",)),
    ),
    min_size=30,
    max_size=90,
)


@pytest.mark.parametrize("chained", [False, True])
@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_the_simulated_stream_does_what_the_edges_does(chained: bool, steps: list[tuple[Any, ...]]) -> None:
    both = Both(chained=chained)
    for now_ns, (what, *how) in enumerate(steps):
        if what == "end":
            which, end, worker = how
            both.end(which, end, worker, now_ns)
        else:
            getattr(both, what)(*how)
        both.check()


def test_a_calm_stretch_is_reached_by_both() -> None:
    """So that the comparison above has compared it."""
    both = Both(chained=False)
    for now_ns in range(12):
        both.code()
        if now_ns < 10:
            both.end(0, End.ANSWERED, 0, now_ns)
    assert [made.trusted for _, made in both.under_way] == [True, True]
    assert both.under_way[1][1].base == both.under_way[0][1].number
