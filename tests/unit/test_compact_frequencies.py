"""Tables that weigh spatial frequencies: what they save and promise of errors, their bytes, and lies in them."""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from splitmesh.codec.compact.fit import LARGEST_COEFFICIENT, UNSEEN, fit_table
from splitmesh.codec.compact.fit_frequencies import SAVING, promised_saving, weights_of
from splitmesh.codec.compact.frequencies import (
    LARGEST_SIDE,
    LARGEST_SIZE,
    LARGEST_WEIGHT,
    Frequencies,
    cosines,
    positions,
    sizes_of,
)
from splitmesh.codec.compact.intra import decode_compact, encode_compact, kept_scale, symbols_of
from splitmesh.codec.compact.quantise import ROUNDING
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.compact.transform import UNIT, step_of
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.encoder import TemporalEncoder
from splitmesh.codec.temporal.fit import fit_temporal_model
from splitmesh.codec.temporal.predict import moves
from splitmesh.errors import CodecError

F32 = np.ndarray
SHAPE = (16, 9, 11)


@cache
def frames(count: int = 24, seed: int = 0) -> F32:
    """(count, 16, 9, 11) float32: noise, a little smooth, each plane with a mean of its own in each frame."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, *SHAPE))
    smooth = noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3)
    smooth += rng.standard_normal((count, 16, 1, 1))
    smooth *= np.linspace(2, 0.2, 16)[:, None, None]
    return smooth.astype(np.float32)


def pooled() -> np.ndarray:
    """(9, 11) costs of a tail that averages over positions at once, and looks at the rest but a little."""
    costs = np.full(SHAPE[1:], 1e-3)
    costs[0, 0] = 1
    return costs


@cache
def weighed() -> CompactTable:
    table = fit_table({"t": frames()}, None, {"t": pooled()})
    assert table.tensors[0].frequencies is not None
    return table


@cache
def plain() -> CompactTable:
    return fit_table({"t": frames()})


def through(table: CompactTable, x: F32, level: int) -> tuple[int, F32]:
    """Bytes of a payload, and what comes of it."""
    payload = encode_compact({"t": x}, table=table, level=level)
    return len(payload), decode_compact(payload, tables=lambda _: table, expect={"t": x.shape})["t"]


def test_cosines_are_orthonormal_and_come_back() -> None:
    x = frames()[0]
    y = cosines(x)
    np.testing.assert_allclose(np.square(y).sum(), np.square(x).sum(), rtol=1e-5)
    np.testing.assert_allclose(y[:, 0, 0], x.sum(axis=(1, 2)) / np.sqrt(99), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(positions(y), x, atol=1e-5)


def test_a_pool_gets_its_means_in_far_fewer_bytes() -> None:
    """Of what follows a global average pool alone, bytes at equal error: a fifth of the plain table's or less."""

    def error(back: F32, x: F32) -> float:
        return float(np.square((back - x).mean(axis=(2, 3))).mean())

    def at(table: CompactTable, wanted: float) -> float:
        x = frames(seed=1)[:8]
        for level in range(40, 161, 4):
            found = [through(table, frame[None], level) for frame in x]
            if np.mean([error(back, frame[None]) for (_, back), frame in zip(found, x, strict=True)]) <= wanted:
                return float(np.mean([size for size, _ in found]))
        raise AssertionError("no level is so fine")

    _, back = through(plain(), frames(seed=1)[:1], 90)
    wanted = error(back, frames(seed=1)[:1])
    assert at(weighed(), wanted) < at(plain(), wanted) / 5


@pytest.mark.parametrize("level", [72, 88, 104, 128])
def test_coefficients_come_back_within_what_rounding_takes(level: int) -> None:
    (tensor,) = weighed().tensors
    x = frames()[:1]
    _, back = through(weighed(), x, level)
    kept = len(kept_scale(tensor, level))
    wanted = tensor.forward(x, kept)
    error = np.abs(wanted - tensor.forward(back, kept)).max()
    stored = 1e-4 * np.abs(wanted).max()
    assert error <= (1.001 - ROUNDING) * step_of(level) / UNIT + stored
    assert back.flags.c_contiguous and back.dtype == np.float32


def test_a_coefficient_takes_over_no_error_of_another() -> None:
    (tensor,) = weighed().tensors
    z = tensor.forward(frames()[:1])
    alone = np.zeros_like(z)
    alone[0, 3, 4] = z[0, 3, 4]
    assert symbols_of(tensor, z, 64)[0, 3, 4] == symbols_of(tensor, alone, 64)[0, 3, 4]


def test_the_largest_coefficients_fit_sixteen_bits() -> None:
    x = frames() + np.random.default_rng(2).standard_normal((24, 16, 1, 1)).astype(np.float32) * 50
    (tensor,) = fit_table({"t": x}, None, {"t": pooled()}).tensors
    z = np.stack([tensor.forward(frame[None]) for frame in x])
    largest = np.sqrt(np.square(z).mean(axis=0)).max()
    assert largest == pytest.approx(LARGEST_COEFFICIENT, rel=0.01)


def test_the_table_knows_each_coefficients_size() -> None:
    (tensor,) = weighed().tensors
    assert tensor.frequencies is not None
    z = np.abs(np.stack([tensor.forward(frame[None]) for frame in frames()])).mean(axis=0) * UNIT
    np.testing.assert_allclose(tensor.frequencies.spread, np.maximum(z, UNSEEN * z.mean(axis=0)), rtol=0.07, atol=1)
    assert tensor.scale(90).shape == tensor.frequencies.sizes.shape == (16, 9, 11)
    tallest = tensor.frequencies.sizes.max(axis=(1, 2)).astype(int)
    assert (np.diff(tallest) <= 0).all(), "what is left out at a level is the last ones"
    assert len(kept_scale(tensor, 20)) < len(kept_scale(tensor, 90)) == 16


@pytest.mark.parametrize(
    ("costs", "pays"),
    [(np.ones((9, 11)), False), (np.linspace(1, 1.5, 99).reshape(9, 11), False), (pooled(), True)],
    ids=["all alike", "nearly alike", "a pool"],
)
def test_frequencies_are_weighed_where_that_pays(costs: np.ndarray, pays: bool) -> None:
    table = fit_table({"t": frames()}, None, {"t": costs})
    assert (table.tensors[0].frequencies is not None) == pays
    assert pays or table.to_bytes() == plain().to_bytes(), "nothing else changes"


def test_weights_are_roots_of_costs_and_more_where_the_mean_is_nearly_all() -> None:
    for share, power in ((0.5, 0.5), (0.95, 0.75)):
        costs = np.full((9, 11), (1 - share) / 98)
        costs[0, 0] = share
        weights = weights_of([cosines(frame * 1e2) for frame in frames()], costs)
        assert weights is not None
        ratio = (costs[0, 0] + 1e-3 / 99) / (costs[1, 1] + 1e-3 / 99)
        assert weights[0, 0] / weights[1, 1] == pytest.approx(ratio**power, rel=1e-3)
        assert np.square(weights).mean() == pytest.approx(1, rel=1e-3), "noise of one unit costs what it did"


def test_what_is_promised_is_about_what_is_saved() -> None:
    variances = np.full((4, 8, 8), 1e4)
    shares = np.full((8, 8), 1e-3)
    shares[0, 0] = 64 - 63e-3
    assert promised_saving(variances, np.ones((8, 8))) == pytest.approx(0, abs=1e-6)
    assert 0.9 < promised_saving(variances, shares) < 1
    assert promised_saving(np.zeros((4, 8, 8)), shares) == 0 < SAVING


@pytest.mark.parametrize("costs", [np.ones((9, 10)), np.full((9, 11), np.nan), -np.ones((9, 11))])
def test_costs_that_do_not_fit_are_refused(costs: np.ndarray) -> None:
    with pytest.raises(CodecError, match="costs of frequencies"):
        weights_of([frames()[0]], costs)


def test_costs_of_nothing_and_planes_without_frequencies_are_left_alone() -> None:
    assert weights_of([frames()[0]], np.zeros((9, 11))) is None
    row = np.zeros((1, 8))
    row[0, 0] = 1
    assert weights_of([np.ones((3, 1, 8), np.float32)], row) is None
    long = np.zeros((2, LARGEST_SIDE + 1))
    long[0, 0] = 1
    assert weights_of([np.ones((3, 2, LARGEST_SIDE + 1), np.float32)], long) is None


def test_a_table_is_its_bytes_and_a_plain_one_keeps_them() -> None:
    data = weighed().to_bytes()
    again = CompactTable.from_bytes(data)
    assert data[4] == 2 and again.to_bytes() == replace(again).to_bytes() == data
    assert plain().to_bytes()[4] == 1
    x = frames(seed=3)[:1]
    payload = encode_compact({"t": x}, table=weighed(), level=90)
    assert encode_compact({"t": x}, table=again, level=90) == payload
    both = {"t": frames(), "u": frames(seed=5)}
    mixed = fit_table(both, None, {"t": pooled()})
    assert [tensor.frequencies is not None for tensor in mixed.tensors] == [True, False]
    assert CompactTable.from_bytes(mixed.to_bytes()).to_bytes() == mixed.to_bytes()


def test_a_channel_that_calibration_did_not_move_is_sent_where_it_moves() -> None:
    still = frames().copy()
    still[:, 5] = 1e-4 * still[:, 5]
    table = fit_table({"t": still}, None, {"t": pooled()})
    x = frames(seed=7)[:1]
    _, back = through(table, x, 100)
    lost = np.abs((back - x).mean(axis=(2, 3)))[0]
    assert lost[5] < 0.1 * np.abs(x[0, 5].mean())


def test_a_whole_transform_stores_no_synthesis_and_a_part_of_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    (tensor,) = CompactTable.from_bytes(weighed().to_bytes()).tensors
    np.testing.assert_allclose(tensor.synthesis @ tensor.analysis, np.eye(16), atol=1e-4)
    monkeypatch.setattr("splitmesh.codec.compact.fit.LARGEST_WEIGHED", 6 * (4 * 16 + 99))
    part = fit_table({"t": frames()}, None, {"t": pooled()})
    assert len(part.tensors[0].spread) == 6
    assert CompactTable.from_bytes(part.to_bytes()).to_bytes() == part.to_bytes()
    assert np.array_equal(CompactTable.from_bytes(part.to_bytes()).tensors[0].synthesis, part.tensors[0].synthesis)


def parts() -> tuple[bytes, bytes, bytes, bytes]:
    """A table's bytes up to and with the analysis, the weights, the sizes, and what follows."""
    data = weighed().to_bytes()
    (tensor,) = weighed().tensors
    assert tensor.frequencies is not None
    weights, sizes = tensor.frequencies.weights.tobytes(), tensor.frequencies.sizes.tobytes()
    at = data.index(weights + sizes)
    end = at + len(weights) + len(sizes)
    return data[:at], weights, sizes, data[end:]


ANALYSIS_BYTES = 16 + 2 * 16 * 16


def flagged(before: bytes, flag: int) -> bytes:
    at = len(before) - ANALYSIS_BYTES - 1
    assert before[at] == 1
    return before[:at] + bytes([flag]) + before[at + 1 :]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, -1.0, 1e-30, 2 * LARGEST_WEIGHT], ids=str)
def test_weights_that_could_overflow_are_refused(wrong: float) -> None:
    before, weights, sizes, rest = parts()
    lie = bytearray(weights)
    lie[4 * 7 : 4 + 4 * 7] = struct.pack("<f", wrong)
    with pytest.raises(CodecError, match="weights of frequencies"):
        CompactTable.from_bytes(before + lie + sizes + rest)


def test_sizes_flags_versions_and_lengths_that_no_table_has_are_refused() -> None:
    before, weights, sizes, rest = parts()
    CompactTable.from_bytes(before + weights + sizes + rest)
    large = bytearray(sizes)
    large[5] = LARGEST_SIZE + 1
    for lie, reason in (
        (before + weights + large + rest, "has size 242"),
        (flagged(before, 2) + weights + sizes + rest, "says 2 of its frequencies"),
        (flagged(before, 0) + before[-ANALYSIS_BYTES:] + rest, "weighs the frequencies of no tensor"),
        (before[:-ANALYSIS_BYTES] + bytes(ANALYSIS_BYTES) + weights + sizes + rest, "has no inverse"),
        (before + weights + sizes[:40], "cut short"),
        (before + weights + sizes + rest + b"\0", "left over"),
        (b"SMCT\3" + before[5:] + weights + sizes + rest, "version 3"),
    ):
        with pytest.raises(CodecError, match=reason):
            CompactTable.from_bytes(lie)
    with pytest.raises(CodecError):
        CompactTable.from_bytes(b"SMCT\1" + before[5:] + weights + sizes + rest)


def test_long_planes_ask_for_no_matrix_of_cosines() -> None:
    """Two million positions in a row fit a table, their cosines would be tebibytes."""
    head = struct.pack("<4sBBB1sBIIIIBH", b"SMCT", 2, 1, 1, b"t", 4, 1, 1, 1 << 10, 1 << 11, 1, 1)
    body = bytes(4) + bytes(4) + b"\1" + bytes(1) + struct.pack("<h", 1)
    lie = head + body + np.ones(1 << 21, "<f4").tobytes()[: (1 << 22) - 200]
    with pytest.raises(CodecError):
        CompactTable.from_bytes(lie)
    with pytest.raises(CodecError, match="have no frequencies"):
        Frequencies(np.ones((1, LARGEST_SIDE + 1), np.float32), np.zeros((1, 1, LARGEST_SIDE + 1), np.uint8))


def test_what_a_payload_can_hold_stays_finite() -> None:
    (tensor,) = weighed().tensors
    steep = replace(tensor, synthesis=np.full_like(tensor.synthesis, 1e20))
    assert steep.frequencies is not None
    light = Frequencies(np.full((9, 11), 1 / LARGEST_WEIGHT, np.float32), steep.frequencies.sizes)
    most = np.full((16, 9, 11), 2.0**22, np.float32)
    with np.errstate(all="raise"):
        assert np.isfinite(replace(steep, frequencies=light).inverse(most)).all()
    with pytest.raises(CodecError, match="could overflow"):
        replace(steep, synthesis=steep.synthesis * np.float32(10))


def test_frequencies_of_other_planes_are_refused() -> None:
    (tensor,) = weighed().tensors
    by = Frequencies(np.ones((9, 10), np.float32), np.zeros((16, 9, 10), np.uint8))
    with pytest.raises(CodecError, match="other planes"):
        replace(tensor, frequencies=by)


def test_sizes_are_within_a_sixteenth_of_an_octave() -> None:
    magnitudes = np.geomspace(40, 2**29, 400)
    by = Frequencies(np.ones((20, 20), np.float32), sizes_of(magnitudes).reshape(1, 20, 20))
    assert np.abs(np.log2(by.spread.reshape(-1) / magnitudes)).max() < 0.1
    assert list(sizes_of(np.array([0, 0.4, 1.0, 1e300]))) == [0, 0, 1, LARGEST_SIZE]


def test_coefficients_are_not_predicted_from_each_other() -> None:
    still = {"t": frames(seed=4)[:1] + 0.02 * frames(seed=6)[:6]}
    for table, linked in ((plain(), True), (weighed(), False)):
        assert table.model.taps.any() == linked == fit_temporal_model(table, [still]).taps.any()


def test_streams_follow_frequencies_without_motion() -> None:
    still = frames(seed=4)[:1] + 0.02 * frames(seed=6)[:6]
    table = CompactTable(weighed().tensors, weighed().model, fit_temporal_model(weighed(), [{"t": still}]))
    assert moves(plain().tensors[0]) and not moves(table.tensors[0])
    encoder, decoder = TemporalEncoder(table), TemporalDecoder(table)
    sizes = []
    for frame in still:
        coded = encoder.encode({"t": frame[None]}, level=96)
        back = decoder.decode(coded.payload)["t"]
        encoder.acknowledged(coded.number)
        sizes.append(len(coded.payload))
        means = (back - frame[None]).mean(axis=(2, 3))
        assert np.abs(means).max() < 0.05
    assert max(sizes[1:]) < sizes[0] / 2
