"""The temporal codec over links that lose, delay, repeat and reorder: never a wrong answer, always a way on."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporal_clips import clip, table

from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.encoder import Coded, TemporalEncoder
from splitmesh.codec.temporal.motion import pack_motion, unpack_motion
from splitmesh.codec.temporal.predict import FAR, moved
from splitmesh.errors import CodecError, NeedKeyframe

EVENTS = st.one_of(
    st.tuples(st.just("encode"), st.integers(0, 7), st.sampled_from([64, 96, 97, 140])),
    st.tuples(st.just("deliver"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("acknowledge"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("lose"), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("reset"), st.just(0), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EVENTS, min_size=5, max_size=40), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0, 65_530]))
def test_whatever_happens_on_the_way_no_answer_is_wrong(
    events: list[tuple[str, int, int]], sender_keeps: int, receiver_keeps: int, start: int
) -> None:
    """Packets are delivered in any order, often or never, acknowledgements too, even of what was never decoded."""
    encoder, decoder = TemporalEncoder(table(), kept=sender_keeps), TemporalDecoder(table(), kept=receiver_keeps)
    encoder._number = start
    sent: list[tuple[Coded, dict[str, np.ndarray]]] = []
    keys_held = 0
    for what, at, detail in [("encode", 0, 96), *events]:
        if what == "encode":
            coded = encoder.encode({"cut": clip()[at : at + 1]}, level=detail)
            truth = encoder.reconstruction(coded.number)
            assert truth is not None and len(encoder._under_way) <= sender_keeps
            sent.append((coded, truth))
        elif what == "deliver":
            coded, truth = sent[at % len(sent)] if detail else sent[-1]
            try:
                tensors = decoder.decode(coded.payload)
            except NeedKeyframe:
                assert not coded.key
            else:
                assert np.array_equal(tensors["cut"], truth["cut"])
                keys_held += coded.key
            assert len(decoder._references) <= receiver_keeps
        elif what == "acknowledge":
            encoder.acknowledged((sent[at % len(sent)] if detail else sent[-1])[0].number)
        elif what == "lose":
            encoder.lost(sent[at % len(sent)][0].number)
        elif what == "reset":
            encoder.reset()
        else:
            decoder = TemporalDecoder(table(), kept=receiver_keeps)
    encoder.reset()
    coded = encoder.encode({"cut": clip()[:1]}, level=96)
    truth = encoder.reconstruction(coded.number)
    assert coded.key and truth is not None
    assert np.array_equal(decoder.decode(coded.payload)["cut"], truth["cut"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), min_size=4, max_size=24))
def test_honest_acknowledgements_make_every_delivered_frame_decodable(steps: list[tuple[bool, bool, int]]) -> None:
    """Some packets and some acknowledgements are lost, the rest come up to three frames late: no NeedKeyframe."""
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    on_the_way: list[tuple[int, int]] = []
    for i, (arrives, comes_back, delay) in enumerate(steps):
        for due, number in [each for each in on_the_way if each[0] <= i]:
            encoder.acknowledged(number)
            on_the_way.remove((due, number))
        coded = encoder.encode({"cut": clip()[i % 8 : i % 8 + 1]}, level=96)
        truth = encoder.reconstruction(coded.number)
        if not arrives:
            encoder.lost(coded.number)
            continue
        assert truth is not None
        assert np.array_equal(decoder.decode(coded.payload)["cut"], truth["cut"])
        if comes_back:
            on_the_way.append((i + 1 + delay, coded.number))


@given(st.data())
def test_movements_survive_their_bytes(data: st.DataObject) -> None:
    shapes = data.draw(st.lists(st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    share = data.draw(st.floats(0, 1))
    motions = [
        (rng.integers(-FAR, FAR + 1, shape) * (rng.random(shape[1:]) < share)).astype(np.int16) for shape in shapes
    ]
    packed = pack_motion(motions)
    found, taken = unpack_motion(memoryview(packed + b"rest"), shapes)
    assert taken == len(packed)
    assert all(np.array_equal(a, b) for a, b in zip(motions, found, strict=True))


@given(st.binary(max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_any_bytes_are_movements_within_bounds_or_refused(data: bytes, rows: int, columns: int) -> None:
    try:
        (motion,), taken = unpack_motion(memoryview(data), [(2, rows, columns)])
    except CodecError:
        return
    assert np.abs(motion).max() <= FAR
    assert pack_motion([motion]) == data[:taken]


@given(st.integers(0, 2**32 - 1), st.integers(4, 11), st.integers(4, 11))
def test_blocks_come_from_where_they_were(seed: int, height: int, width: int) -> None:
    """Against the definition, element by element, up to the largest values there are."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-(1 << 26), (1 << 26) + 1, (2, height, width)).astype(np.int32)
    motion = rng.integers(-FAR, FAR + 1, (2, -(-height // 4), -(-width // 4))).astype(np.int16)
    found = moved(values, motion)
    for y in range(height):
        for x in range(width):
            down, right = (int(part[y // 4, x // 4]) for part in motion)
            fine_y, fine_x = (min(max(4 * y - down, 0), 4 * height - 4), min(max(4 * x - right, 0), 4 * width - 4))
            total = np.zeros(2, np.int64)
            for j, wy in ((0, 4 - fine_y % 4), (1, fine_y % 4)):
                for i, wx in ((0, 4 - fine_x % 4), (1, fine_x % 4)):
                    if wy and wx:
                        total += values[:, fine_y // 4 + j, fine_x // 4 + i].astype(np.int64) * wy * wx
            assert np.array_equal(found[:, y, x], (total + 8) >> 4)
