"""What a simulated worker holds of streams, under the limits of the real one."""

from __future__ import annotations

from splitmesh.cloud import streams as real
from splitmesh.sim import open_streams as mirrored
from splitmesh.sim.open_streams import IN_USE_NS, MAX_AGE_NS, MAX_PER_EDGE, MAX_STREAMS, OpenStreams
from splitmesh.sim.request import StreamPart


def key(stream: int, number: int = 1) -> StreamPart:
    return StreamPart(stream, number, base=None)


def test_limits_are_the_workers_own() -> None:
    for name in ("MAX_PER_EDGE", "MAX_STREAMS", "IN_USE_NS", "MAX_AGE_NS"):
        assert getattr(mirrored, name) == getattr(real, name)


def test_a_frame_builds_on_what_was_decoded_of_its_own_stream() -> None:
    streams = OpenStreams()
    assert not streams.find(0, StreamPart(7, 2, base=1), 0)
    assert streams.open(0, key(7), 0) and streams.decodes(0, key(7))
    assert streams.find(0, StreamPart(7, 2, base=1), 0)
    assert streams.decodes(0, StreamPart(7, 2, base=1))
    assert not streams.decodes(0, StreamPart(7, 5, base=4))
    assert not streams.find(1, StreamPart(7, 2, base=1), 0)  # another edge's stream of the same number


def test_the_oldest_frames_are_forgotten() -> None:
    streams = OpenStreams()
    streams.open(0, key(7), 0)
    for number in range(1, 34):
        assert streams.decodes(0, key(7, number))
    assert not streams.decodes(0, StreamPart(7, 99, base=1))
    assert streams.decodes(0, StreamPart(7, 99, base=2))


def test_an_edge_keeps_its_latest_few() -> None:
    streams = OpenStreams()
    for stream in range(MAX_PER_EDGE + 1):
        assert streams.open(3, key(stream), stream)
    assert len(streams) == MAX_PER_EDGE
    assert not streams.find(3, key(0), 100) and streams.find(3, key(1), 100)


def test_where_all_are_in_use_a_newcomer_is_refused_and_an_idle_one_makes_room() -> None:
    streams = OpenStreams()
    for edge in range(MAX_STREAMS):
        assert streams.open(edge, key(1), edge) and streams.decodes(edge, key(1))
    assert not streams.open(MAX_STREAMS, key(1), IN_USE_NS)
    assert streams.open(MAX_STREAMS, key(1), IN_USE_NS + 1)
    assert not streams.find(0, key(1), IN_USE_NS + 1) and streams.find(1, key(1), IN_USE_NS + 1)


def test_what_is_not_used_is_forgotten_in_time() -> None:
    streams = OpenStreams()
    streams.open(0, key(1), 0)
    streams.open(0, key(2), 10)
    streams.trim(MAX_AGE_NS)
    assert len(streams) == 2
    streams.trim(MAX_AGE_NS + 1)
    assert len(streams) == 1 and streams.find(0, key(2), MAX_AGE_NS + 1)
