"""The temporal codec: what builds on what, when a frame stands alone, and that no payload gives a wrong answer."""

from __future__ import annotations

import numpy as np
import pytest
from temporal_clips import CHANNELS, HEIGHT, LEVEL, WIDTH, clip, frame, table

from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.intra import decode_compact, encode_compact
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.head import STATEFUL_HEAD_BYTES, State, parse_head
from splitmesh.codec.temporal.coder import TemporalCoder
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.encoder import FINER, Coded, TemporalEncoder
from splitmesh.codec.temporal.fit import fit_temporal_model
from splitmesh.codec.temporal.frame import KEY, MOTION
from splitmesh.codec.temporal.state import NUMBERS
from splitmesh.errors import CodecError, NeedKeyframe, NeedTable


def send(encoder: TemporalEncoder, decoder: TemporalDecoder, index: int, level: int = LEVEL, **kind: float) -> Coded:
    """One frame that arrives, is decoded to what the encoder expects, and is acknowledged."""
    coded = encoder.encode(frame(index, **kind), level=level)
    same(decoder.decode(coded.payload), encoder.reconstruction(coded.number))
    encoder.acknowledged(coded.number)
    return coded


def same(tensors: dict[str, np.ndarray], others: dict[str, np.ndarray] | None) -> None:
    assert others is not None and tensors.keys() == others.keys()
    assert all(np.array_equal(tensors[name], others[name]) for name in tensors)


def reference_of(coded: Coded) -> State:
    state = parse_head(coded.payload)[0].state
    assert state is not None
    return state


def test_a_stream_begins_with_a_keyframe_and_then_costs_little() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    coded = [send(encoder, decoder, i) for i in range(8)]
    assert [each.key for each in coded] == [True] + 7 * [False]
    assert [each.number for each in coded] == list(range(8))
    assert max(len(each.payload) for each in coded[1:]) < len(coded[0].payload) / 2


@pytest.mark.parametrize("level", [60, 96, 128])
def test_no_frame_is_further_off_than_coded_alone(level: int) -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    alone = []
    for i in range(8):
        send(encoder, decoder, i, level)
        payload = encode_compact(frame(i), table=table(), level=level)
        alone.append(decode_compact(payload, tables=lambda _: table(), expect={"cut": (1, CHANNELS, HEIGHT, WIDTH)}))
    last = encoder.reconstruction(7)
    assert last is not None
    off, off_alone = (np.abs(t["cut"] - frame(7)["cut"]).mean() for t in (last, alone[7]))
    assert off < 1.6 * off_alone


def test_a_keyframe_is_a_finer_compact_payload_with_numbers() -> None:
    coded = TemporalEncoder(table()).encode(frame(0), level=LEVEL)
    compact = encode_compact(frame(0), table=table(), level=LEVEL + FINER)
    assert parse_head(coded.payload)[0].level == LEVEL + FINER
    assert parse_head(coded.payload)[1] == parse_head(compact)[1]
    same(
        TemporalDecoder(table()).decode(coded.payload),
        decode_compact(compact, tables=lambda _: table(), expect={"cut": (1, CHANNELS, HEIGHT, WIDTH)}),
    )


def test_frames_build_on_the_newest_acknowledged_one() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    send(encoder, decoder, 0)
    under_way = [encoder.encode(frame(i), level=LEVEL) for i in (1, 2, 3)]
    assert [reference_of(each).reference for each in under_way] == [0, 0, 0]
    for each in under_way:
        decoder.decode(each.payload)
    encoder.acknowledged(2)
    encoder.acknowledged(1)  # late, and older than what is acknowledged by now
    assert reference_of(encoder.encode(frame(4), level=LEVEL)).reference == 2
    encoder.lost(3)
    encoder.acknowledged(3)  # said to be lost before
    encoder.acknowledged(77)  # never sent
    assert reference_of(encoder.encode(frame(5), level=LEVEL)).reference == 2


def test_what_is_lost_costs_nothing_else() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    send(encoder, decoder, 0)
    encoder.lost(encoder.encode(frame(1), level=LEVEL).number)
    coded = send(encoder, decoder, 2)
    assert not coded.key and reference_of(coded).reference == 0


def test_only_so_many_frames_under_way_are_remembered() -> None:
    encoder = TemporalEncoder(table(), kept=3)
    numbers = [encoder.encode(frame(0), level=LEVEL).number for _ in range(5)]
    assert encoder.reconstruction(numbers[1]) is None
    encoder.acknowledged(numbers[1])  # too late
    assert encoder.encode(frame(1), level=LEVEL).key
    encoder.acknowledged(numbers[4])
    assert not encoder.encode(frame(1), level=LEVEL).key


def test_after_a_reset_a_keyframe_and_numbers_that_go_on() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    send(encoder, decoder, 0)
    late = encoder.encode(frame(1), level=LEVEL)
    encoder.reset()
    encoder.acknowledged(late.number)  # of the time before
    coded = encoder.encode(frame(2), level=LEVEL)
    assert coded.key and coded.number == 2


def test_another_level_needs_no_keyframe() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    levels = [96, 130, 40, 255, 0, 96, 97]
    coded = [send(encoder, decoder, i, level) for i, level in enumerate(levels)]
    assert not coded[1].key and not coded[2].key and not coded[6].key


def test_what_a_finer_level_kept_outlives_a_coarser_one() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    still = {"cut": clip(1, noise=0.0)}
    for level in (144, 24):
        coded = encoder.encode(still, level=level)
        decoded = decoder.decode(coded.payload)["cut"]
        encoder.acknowledged(coded.number)
    assert np.abs(decoded - still["cut"]).mean() < 0.05 * np.abs(still["cut"]).mean()


def test_what_stands_still_stays_as_fine_as_the_keyframe_at_no_cost() -> None:
    coder, still = TemporalCoder(table(), 72), {"cut": clip(1, noise=0.0)}
    alone = decode_compact(
        encode_compact(still, table=table(), level=72),
        tables=lambda _: table(),
        expect={"cut": (1, CHANNELS, HEIGHT, WIDTH)},
    )
    for _ in range(5):
        payload = coder.encode(still)
        decoded = coder.decode(payload)
    assert len(payload) < STATEFUL_HEAD_BYTES + 8
    off, off_alone = (np.square(t["cut"] - still["cut"]).mean() for t in (decoded, alone))
    assert off < 0.5 * off_alone


@pytest.mark.parametrize(("level", "key"), [(0, FINER), (250, 255), (255, 255)])
def test_first_keyframes_are_at_a_level_that_there_is(level: int, key: int) -> None:
    coded = TemporalEncoder(table()).encode(frame(0), level=level)
    assert parse_head(coded.payload)[0].level == key


@pytest.mark.parametrize("level", [-1, 256])
def test_levels_that_there_are_not_are_refused_of_a_first_frame_too(level: int) -> None:
    with pytest.raises(CodecError, match="level"):
        TemporalEncoder(table()).encode(frame(0), level=level)


def test_a_new_scene_is_a_keyframe() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    send(encoder, decoder, 0)
    cut = send(encoder, decoder, 0, seed=7)
    assert cut.key and parse_head(cut.payload)[0].level == LEVEL, "as fine as asked: a scene may be short"
    assert not send(encoder, decoder, 1, seed=7).key


def test_blocks_that_move_cost_less_than_blocks_that_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def total() -> tuple[int, int]:
        encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
        coded = [send(encoder, decoder, i, speed=0.5, noise=0.0) for i in range(1, 8)][1:]
        moving = sum(parse_head(each.payload)[0].flags == MOTION for each in coded)
        return sum(len(each.payload) for each in coded), moving

    with_motion, moving = total()
    assert moving >= 5
    monkeypatch.setattr("splitmesh.codec.temporal.encoder.moves", lambda _: False)
    without, none = total()
    assert none == 0 and with_motion < 0.9 * without


@pytest.mark.parametrize(
    "features",
    [
        {"vector": np.random.default_rng(1).standard_normal((9, 40)).astype(np.float32)},
        {"row": np.random.default_rng(2).standard_normal((9, 5, 30)).astype(np.float32)},
        {"a": clip(9)[:, :4], "b": clip(9)[:, 4:, :5, :3].copy()},
    ],
    ids=["(1, C)", "(1, C, L)", "two tensors"],
)
def test_tensors_of_other_shapes(features: dict[str, np.ndarray]) -> None:
    plain = fit_table(features)
    fitted = CompactTable(plain.tensors, plain.model, fit_temporal_model(plain, [features]))
    for each in (plain, fitted):
        coder = TemporalCoder(each, 120)
        for i in range(9):
            tensors = {name: frames[i : i + 1] for name, frames in features.items()}
            out = coder.decode(coder.encode(tensors))
            assert {n: t.shape for n, t in out.items()} == {n: t.shape for n, t in tensors.items()}
            assert all(np.abs(out[n] - t).mean() < 0.5 * np.abs(t).mean() for n, t in tensors.items())


def test_acknowledgements_that_come_late() -> None:
    coder = TemporalCoder(table(), LEVEL, lag=2)
    states = []
    for i in range(6):
        payload = coder.encode(frame(i))
        states.append(parse_head(payload)[0].state)
        coder.decode(payload)
    assert [state.reference for state in states if state] == [0, 1, 2, 0, 1, 2]
    coder.reset()
    payload = coder.encode(frame(6))
    assert parse_head(payload)[0].flags == KEY
    coder.decode(payload)


def test_numbers_wrap_around() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    send(encoder, decoder, 0)
    encoder._number = NUMBERS - 2
    coded = [send(encoder, decoder, i) for i in range(1, 6)]
    assert [each.number for each in coded] == [NUMBERS - 2, NUMBERS - 1, 0, 1, 2]
    assert not any(each.key for each in coded)


def test_nothing_builds_on_what_was_acknowledged_all_numbers_ago() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    send(encoder, decoder, 0)
    encoder._number = 0
    assert send(encoder, decoder, 1).key


def test_a_number_that_comes_round_again_is_told_by_its_hash() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    send(encoder, decoder, 0)
    other = TemporalEncoder(table())
    other.acknowledged(other.encode(frame(5, seed=3), level=LEVEL).number)
    with pytest.raises(NeedKeyframe, match="another state"):
        decoder.decode(other.encode(frame(6, seed=3), level=LEVEL).payload)
    send(encoder, decoder, 1)


def test_a_decoder_without_the_reference_says_so_and_goes_on() -> None:
    encoder, elsewhere, decoder = TemporalEncoder(table()), TemporalDecoder(table()), TemporalDecoder(table())
    send(encoder, elsewhere, 0)
    coded = encoder.encode(frame(1), level=LEVEL)
    with pytest.raises(NeedKeyframe, match="not held"):
        decoder.decode(coded.payload)
    encoder.reset()
    send(encoder, decoder, 2)
    send(encoder, decoder, 3)
    decoder.reset()
    with pytest.raises(NeedKeyframe):
        decoder.decode(encoder.encode(frame(4), level=LEVEL).payload)


def test_what_is_built_on_is_held_longest() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table(), kept=3)
    send(encoder, decoder, 0)
    for i in range(1, 7):  # decoded, but the acknowledgements are lost
        coded = encoder.encode(frame(i), level=LEVEL)
        decoder.decode(coded.payload)
    assert len(decoder._references) == 3
    assert reference_of(send(encoder, decoder, 7)).reference == 0


def test_another_table() -> None:
    coded = TemporalEncoder(table(3)).encode(frame(0), level=LEVEL)
    with pytest.raises(NeedTable) as caught:
        TemporalDecoder(table()).decode(coded.payload)
    assert caught.value.table_id == table(3).short_id


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"other": clip(1)},
        {"cut": clip(1)[:, :5]},
        {"cut": clip(1).astype(np.float64)},
        {"cut": np.full_like(clip(1), np.nan)},
        {"cut": np.full_like(clip(1), np.inf)},
        {"cut": np.full_like(clip(1), 2e30)},
    ],
    ids=["none", "name", "shape", "dtype", "NaN", "Inf", "too large"],
)
def test_tensors_that_the_encoder_refuses_leave_it_as_it_was(tensors: dict[str, np.ndarray]) -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    send(encoder, decoder, 0)
    with pytest.raises(CodecError):
        encoder.encode(tensors, level=LEVEL)
    assert send(encoder, decoder, 1).number == 1
    with pytest.raises(CodecError):
        encoder.encode(frame(2), level=256)
    assert send(encoder, decoder, 2).number == 2


def test_extreme_tensors_stay_the_same_at_both_ends() -> None:
    encoder, decoder = TemporalEncoder(table()), TemporalDecoder(table())
    rng = np.random.default_rng(4)
    for i, (size, level) in enumerate([(1e30, 0), (1e30, 255), (1e5, 255), (1e12, 128), (0.0, 200), (1e-30, 8)]):
        tensor = (size * rng.standard_normal(clip(1).shape)).clip(-1e30, 1e30).astype(np.float32)
        coded = encoder.encode({"cut": tensor}, level=level)
        out = decoder.decode(coded.payload)
        same(out, encoder.reconstruction(coded.number))
        assert np.isfinite(out["cut"]).all(), i
        encoder.acknowledged(coded.number)


@pytest.mark.parametrize("kept", [0, -1])
def test_nothing_kept_is_refused(kept: int) -> None:
    with pytest.raises(ValueError):
        TemporalEncoder(table(), kept=kept)
    with pytest.raises(ValueError):
        TemporalDecoder(table(), kept=kept)


def test_a_model_is_fitted_to_frames_that_follow_each_other() -> None:
    plain = fit_table({"cut": clip(8)})
    with pytest.raises(CodecError, match="two frames"):
        fit_temporal_model(plain, [{"cut": clip(1)}])
    fitted = fit_temporal_model(plain, [{"cut": clip(8)}])
    assert fitted.to_bytes() == fit_temporal_model(plain, [{"cut": clip(8)}]).to_bytes()

    def total(each: CompactTable) -> int:
        coder, sizes = TemporalCoder(each, LEVEL), []
        for i in range(8):
            payload = coder.encode(frame(i))
            coder.decode(payload)
            sizes.append(len(payload))
        return sum(sizes[1:])

    assert total(CompactTable(plain.tensors, plain.model, fitted)) < total(plain)
