"""Streams at a worker: in order, bounded, and nobody's flood ends anybody else's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from splitmesh.cloud.streams import (
    IN_USE_NS,
    MAX_AGE_NS,
    MAX_BYTES,
    MAX_PER_EDGE,
    MAX_STREAMS,
    MAX_WAITING,
    Streams,
)
from splitmesh.errors import CodecError, NeedKeyframe, Overloaded
from splitmesh.wire.requests import InferRequest

SHA = "0" * 64


def opener(stream: int, edge: str = "e", **changes: object) -> InferRequest:
    fields = {"model": "m", "cut": "c", **changes}
    return InferRequest(f"{edge}.r.1", edge, model_sha256=SHA, payload=b"key", stream=stream, **fields)


@dataclass
class Decoder:
    """Gives each payload back with what came before it; b"bad" fails."""

    state_bytes: int = 10
    seen: list[bytes] = field(default_factory=list)

    def decode(self, payload: bytes) -> dict[str, list[bytes]]:
        if payload == b"bad":
            raise CodecError("bad")
        self.seen.append(payload)
        return {"seen": list(self.seen)}


def proven(streams: Streams, stream: int, edge: str = "e", now_ns: int = 0, size: int = 10) -> None:
    turn = streams.open(opener(stream, edge), now_ns).arrive(b"key")
    turn.take(lambda _: Decoder(size))


def test_payloads_are_decoded_in_order_of_arrival_whoever_is_served_first() -> None:
    streams = Streams()
    stream = streams.open(opener(7), 0)
    turns = [stream.arrive(bytes([65 + n])) for n in range(3)]
    decoder = Decoder()
    assert turns[2].take(lambda _: decoder) == {"seen": [b"A", b"B", b"C"]}
    assert turns[0].take(lambda _: decoder) == {"seen": [b"A"]}
    assert turns[1].take(lambda _: decoder) == {"seen": [b"A", b"B"]}


def test_what_was_refused_is_left_out_and_what_fails_fails_alone() -> None:
    stream = Streams().open(opener(7), 0)
    dropped, bad, good = (stream.arrive(payload) for payload in (b"x", b"bad", b"good"))
    dropped.drop()
    decoder = Decoder()
    assert good.take(lambda _: decoder) == {"seen": [b"good"]}
    with pytest.raises(CodecError, match="bad"):
        bad.take(lambda _: decoder)
    with pytest.raises(NeedKeyframe):
        dropped.take(lambda _: decoder)


def test_two_threads_take_their_turns_without_waiting_for_each_other_for_ever() -> None:
    stream = Streams().open(opener(7), 0)
    turns = [stream.arrive(str(n).encode()) for n in range(50)]
    decoder, got = Decoder(), {}

    def take(mine: Iterator[int]) -> None:
        for n in mine:
            got[n] = turns[n].take(lambda _: decoder)

    threads = [threading.Thread(target=take, args=(iter(range(start, 50, 2)),)) for start in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert decoder.seen == [str(n).encode() for n in range(50)]
    assert all(len(got[n]["seen"]) == n + 1 for n in range(50))


def test_too_many_waiting_payloads_are_refused_until_some_are_decoded_or_dropped() -> None:
    stream = Streams().open(opener(7), 0)
    turns = [stream.arrive(b"x") for _ in range(MAX_WAITING)]
    with pytest.raises(Overloaded, match=str(MAX_WAITING)):
        stream.arrive(b"x")
    for turn in turns:
        turn.drop()
    assert stream.arrive(b"y").take(lambda _: Decoder()) == {"seen": [b"y"]}


def test_a_stream_is_found_by_id_and_is_nobody_elses() -> None:
    streams = Streams()
    opened = streams.open(opener(7), 0)
    assert streams.open(opener(7), 1) is opened and streams.find(7, 2) is opened
    for other in (opener(7, "f"), opener(7, cut="d"), opener(7, model="n")):
        with pytest.raises(NeedKeyframe, match="in use"):
            streams.open(other, 3)
    with pytest.raises(NeedKeyframe, match="00000008"):
        streams.find(8, 0)


def test_an_edge_that_opens_ten_thousand_keeps_its_latest_few_and_ends_nobody_elses() -> None:
    streams = Streams()
    for edge in range(20):
        proven(streams, 1 + edge, f"honest-{edge}")
    for stream in range(10_000):
        streams.open(opener(100 + stream, "bomb"), 1)
    assert len(streams) == 20 + MAX_PER_EDGE
    for edge in range(20):
        streams.find(1 + edge, 2)
    assert streams.find(100 + 9_999, 2)


def test_many_edges_can_not_push_out_streams_in_use_and_are_told_so() -> None:
    streams = Streams()
    for stream in range(MAX_STREAMS):
        proven(streams, 1 + stream, f"e{stream // MAX_PER_EDGE}")
    with pytest.raises(Overloaded, match=f"{MAX_STREAMS} streams are open"):
        streams.open(opener(9999, "late"), IN_USE_NS)
    streams.find(1, IN_USE_NS)
    assert streams.open(opener(9999, "late"), IN_USE_NS + 1)
    assert streams.find(1, IN_USE_NS + 2), "it was used since"
    with pytest.raises(NeedKeyframe):
        streams.find(2, IN_USE_NS + 2)


def test_streams_of_which_nothing_was_ever_decoded_make_room_first() -> None:
    streams = Streams()
    proven(streams, 1, "honest")
    for stream in range(10_000):
        streams.open(opener(100 + stream, f"bomb-{stream}"), 1)
    assert len(streams) == MAX_STREAMS
    assert streams.find(1, 2)


def test_what_is_old_or_too_large_goes() -> None:
    streams = Streams()
    for stream in range(4):
        proven(streams, 1 + stream, now_ns=stream, size=MAX_BYTES // 4)
    streams.trim(4)
    assert len(streams) == 4
    proven(streams, 5, now_ns=5)
    streams.trim(5)
    assert len(streams) == 4 and streams.bytes <= MAX_BYTES
    streams.trim(MAX_AGE_NS + 3)
    assert len(streams) == 2
    streams.trim(MAX_AGE_NS + 6)
    assert len(streams) == 0
