"""A stream on the edge: what it builds on is what its home acknowledged, and every loss costs a key at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.edge import streams
from splitmesh.edge.streams import (
    CALM_FRAMES,
    MAX_IDLE_NS,
    MAX_REFUSALS,
    MAX_UNACKNOWLEDGED,
    EdgeStream,
    End,
    NotSent,
    StreamFrame,
)
from splitmesh.policy.payloads import Reference

S = 1_000_000_000


@dataclass
class Coded:
    payload: bytes
    number: int
    key: bool
    level: int


@dataclass
class Encoder:
    """As any encoder of a stream must behave: a key until something is acknowledged, then built on that."""

    number: int = 0
    sent: set[int] = field(default_factory=set)
    reference: int | None = None
    life: int = 0

    def encode(self, content: object, *, level: int, limit_bytes: float) -> Coded:
        self.number += 1
        self.sent.add(self.number)
        said = f"{self.life}:{self.number}<-{self.reference}"
        return Coded(said.encode(), self.number, self.reference is None, min(level, int(min(limit_bytes, 1e9))))

    def acknowledged(self, number: int) -> None:
        assert number in self.sent, "acknowledged twice, or never sent"
        self.sent.discard(number)
        self.reference = max(number, self.reference or 0)

    def lost(self, number: int) -> None:
        assert number in self.sent, "lost twice, or acknowledged before"
        self.sent.discard(number)

    def reset(self) -> None:
        self.life += 1
        self.reference = None
        self.sent.clear()


def made(*, chained: bool = False) -> tuple[EdgeStream, list[Reference], Encoder]:
    told: list[Reference] = []
    encoder = Encoder()
    return EdgeStream(lambda: encoder, chained=chained, tell=told.append), told, encoder


def go(stream: EdgeStream, worker: str = "w-1", end: End = End.ANSWERED, now_ns: int = 0) -> StreamFrame:
    frame = stream.code(None, 0)
    stream.send(frame)
    stream.ended(frame, end, worker, now_ns)
    return frame


def test_a_key_goes_to_the_pool_and_what_follows_to_the_worker_that_answered_it() -> None:
    stream, told, _ = made()
    first = stream.code(None, 0)
    assert first.key and stream.send(first) == "" and told == [Reference.COMING]
    with pytest.raises(NotSent, match="under way"):
        stream.code(None, 0)
    stream.ended(first, End.ANSWERED, "w-1", 5)
    assert told[-1] is Reference.ALIVE
    second = stream.code(None, 0)
    assert not second.key and second.payload == b"0:2<-1" and stream.send(second) == "w-1"
    third = stream.code(None, 0)
    assert third.payload == b"0:3<-1", "the second is not acknowledged"
    stream.send(third)
    stream.ended(third, End.ANSWERED, "w-1", 6)
    stream.ended(second, End.ANSWERED, "w-1", 7)
    assert stream.code(None, 0).payload == b"0:4<-3"


def test_what_is_refused_or_lost_is_not_built_on_and_costs_no_key() -> None:
    stream, told, _ = made()
    go(stream)
    for worker in ("w-1", ""):
        go(stream, worker, End.REFUSED)
        assert stream.code(None, 0).payload.endswith(b"<-1")
    assert stream.home == "w-1" and told[-1] is Reference.ALIVE


Break = Callable[[EdgeStream], object]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda stream: stream.reset(),
        lambda stream: go(stream, "w-1", End.BROKEN),
        lambda stream: go(stream, "", End.BROKEN),
        lambda stream: [go(stream, "w-1", End.REFUSED) for _ in range(MAX_REFUSALS)],
    ],
)
def test_what_breaks_a_stream_makes_the_next_frame_a_key_to_the_pool(
    break_it: Callable[[EdgeStream], object],
) -> None:
    stream, told, _ = made()
    go(stream)
    before = stream.id
    break_it(stream)
    assert stream.home == "" and stream.id != before and told[-1] is Reference.NONE
    frame = stream.code(None, 0)
    assert frame.key and stream.send(frame) == ""


def test_an_answer_in_between_forgives_refusals() -> None:
    stream, _, _ = made()
    go(stream)
    for _ in range(3 * MAX_REFUSALS):
        go(stream, "w-1", End.REFUSED)
        go(stream)
    assert stream.home == "w-1"


def test_a_chained_stream_begins_anew_after_any_loss() -> None:
    stream, _, _ = made(chained=True)
    go(stream)
    go(stream, "w-1", End.REFUSED)
    assert stream.home == "" and stream.code(None, 0).key


def test_frames_of_an_earlier_life_change_nothing() -> None:
    stream, told, _ = made()
    first = stream.code(None, 0)
    stream.send(first)
    stream.reset()
    stream.ended(first, End.ANSWERED, "w-1", 0)
    assert stream.home == "" and told[-1] is Reference.NONE
    second = stream.code(None, 0)
    stream.reset()
    with pytest.raises(NotSent, match="anew"):
        stream.send(second)


def test_a_key_that_is_overdue_lets_another_go_and_still_counts_if_it_is_answered() -> None:
    stream, told, _ = made()
    first = stream.code(None, 0)
    stream.send(first)
    stream.overdue(first)
    assert told[-1] is Reference.NONE
    second = stream.code(None, 0)
    assert second.key and stream.send(second) == ""
    stream.ended(first, End.ANSWERED, "w-1", 0)
    assert stream.code(None, 0).payload.endswith(b"<-1")
    stream.ended(second, End.ANSWERED, "w-2", 0)  # w-1 does not hold it
    assert stream.home == "w-1" and stream.code(None, 0).payload.endswith(b"<-1")


def test_a_chained_key_that_is_overdue_ends_its_life() -> None:
    stream, _, _ = made(chained=True)
    first = stream.code(None, 0)
    stream.send(first)
    stream.overdue(first)
    stream.ended(first, End.ANSWERED, "w-1", 0)
    assert stream.home == "" and stream.code(None, 0).key


def test_a_lost_key_lets_another_go_at_once() -> None:
    stream, told, _ = made()
    go(stream, "", End.REFUSED)
    assert told[-1] is Reference.NONE
    assert stream.code(None, 0).key


def test_after_a_calm_stretch_frames_build_on_what_is_still_under_way() -> None:
    stream, told, _ = made()
    for _ in range(CALM_FRAMES):
        assert not go(stream).trusted
    ahead = [stream.code(None, 0) for _ in range(3)]
    assert [frame.payload.decode().partition("<-")[2] for frame in ahead] == [
        str(frame.number - 1) for frame in ahead
    ]
    for frame in ahead:
        assert frame.trusted and stream.send(frame) == "w-1"
    stream.ended(ahead[0], End.ANSWERED, "w-1", 0)
    assert stream.home == "w-1"
    stream.ended(ahead[1], End.REFUSED, "w-1", 0)
    assert stream.home == "" and told[-1] is Reference.NONE
    key = stream.code(None, 0)
    assert key.key and not key.trusted
    stream.send(key)
    stream.ended(key, End.ANSWERED, "w-1", 0)
    assert not stream.code(None, 0).trusted, "calm is earned anew"


def test_bounds() -> None:
    stream, _, _ = made()
    go(stream, now_ns=S)
    assert not stream.stale(S + MAX_IDLE_NS) and stream.stale(S + MAX_IDLE_NS + 1)
    for _ in range(MAX_UNACKNOWLEDGED):
        stream.check_room()
        stream.send(stream.code(None, 0))
    with pytest.raises(NotSent, match="unacknowledged"):
        stream.check_room()


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["code", "code", "answer", "other", "refuse", "lose", "break", "reset", "overdue"])),
    st.sampled_from([1, 2, CALM_FRAMES]),
)
def test_whatever_happens_a_frame_builds_on_what_its_own_worker_holds_or_gets_before(
    events: list[str], calm: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "CALM_FRAMES", calm)
        play(events)


def play(events: list[str]) -> None:
    stream, told, _ = made()
    under_way: list[tuple[StreamFrame, str]] = []
    held: dict[tuple[int, str], set[int]] = {}
    for event in events:
        if event == "code":
            try:
                frame = stream.code(None, 0)
                under_way.append((frame, stream.send(frame)))
            except NotSent:
                continue
            life, _, rest = frame.payload.decode().partition(":")
            reference = rest.partition("<-")[2]
            if frame.key:
                assert reference == "None"
            else:
                assert int(reference) in held[int(life), under_way[-1][1]]
            if frame.trusted:
                held[int(life), under_way[-1][1]].add(frame.number)
        elif event == "reset":
            stream.reset()
        elif under_way and event == "overdue":
            stream.overdue(under_way[0][0])
        elif under_way:
            frame, worker = under_way.pop(0)
            worker = worker or ("w-2" if event == "other" else "w-1")
            end = {"answer": End.ANSWERED, "other": End.ANSWERED, "break": End.BROKEN}.get(event, End.REFUSED)
            if end is End.ANSWERED:
                life = int(frame.payload.decode().partition(":")[0])
                held.setdefault((life, worker), set()).add(frame.number)
            stream.ended(frame, end, "" if event == "lose" else worker, 0)
            if frame.trusted and end is not End.ANSWERED:
                held.pop((int(frame.payload.decode().partition(":")[0]), worker), None)
    assert len(stream._under_way) <= len(under_way)
    assert (told[-1:] == [Reference.ALIVE]) == bool(stream.home) or not told
