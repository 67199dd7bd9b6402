"""Plane models as bytes, what their fit promises, and the arithmetic below them against an oracle."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plane_examples import coded, examples, numbers, planes, scale_of

from splitmesh.codec.planes import pure
from splitmesh.codec.planes.arithmetic import SQUASH, STRETCH, Decoder, Encoder
from splitmesh.codec.planes.coding import encode_planes
from splitmesh.codec.planes.fit import fit_plane_model
from splitmesh.codec.planes.kernel import COMPILED, KERNEL
from splitmesh.codec.planes.model import MOST_MODEL_BYTES, PlaneExample, PlaneModel, blank_state
from splitmesh.codec.planes.taps import ONE, TAPS, fit_taps
from splitmesh.errors import CodecError

GOLDEN = (Path(__file__).parents[1] / "golden" / "planes" / "model.bin").read_bytes()


def test_a_model_survives_its_bytes() -> None:
    model = PlaneModel.from_bytes(GOLDEN)
    assert model.planes == (6, 4, 3)
    assert model.to_bytes() == GOLDEN
    assert not model.state.flags.writeable and not model.taps.flags.writeable


def test_coding_leaves_the_model_as_it_was() -> None:
    model = PlaneModel.from_bytes(GOLDEN)
    assert encode_planes(coded(7), model=model) == encode_planes(coded(7), model=model)


@pytest.mark.skipif(COMPILED is None, reason="one kernel only")
def test_both_kernels_fit_the_same_model() -> None:
    few = examples(frames=2)
    assert fit_plane_model(few).to_bytes() == fit_plane_model(few, kernel=pure).to_bytes()


def test_fitting_needs_examples() -> None:
    with pytest.raises(CodecError, match="at least one"):
        fit_plane_model([])


def test_taps_find_the_neighbour_that_tells() -> None:
    """Plane 1 is minus plane 0, one column to the right."""
    first = planes((1, 12, 12), 5)[0]
    second = np.zeros_like(first)
    second[:, 1:] = -first[:, :-1]
    taps = fit_taps([(np.stack([first, second]), None)], 2)
    strongest = taps[1][np.argmax(np.abs(taps[1, :, 3]))]
    assert strongest[:3].tolist() == [1, 0, -1]
    assert strongest[3] == pytest.approx(-ONE, rel=0.15)


def _rebuilt(change: int, value: int) -> bytes:
    """The golden model with one byte of its body set."""
    body = bytearray(zlib.decompress(GOLDEN[12:]))
    body[change] = value
    return GOLDEN[:12] + zlib.compress(body)


SLOTS = 13
DY_AT, COUNTS_AT = SLOTS * TAPS * 2, SLOTS * TAPS * 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "6 … "),
        (b"\0" * (MOST_MODEL_BYTES + 1), "6 … "),
        (b"XXXX" + GOLDEN[4:], "starts with"),
        (GOLDEN[:4] + b"\x09" + GOLDEN[5:], "starts with"),
        (GOLDEN[:5] + b"\0" + GOLDEN[6:], "starts with"),
        (GOLDEN[:6] + b"\0\0" + GOLDEN[8:], "is of"),
        (GOLDEN[:6] + b"\xff\xff" + GOLDEN[8:], "is of"),
        (GOLDEN[:6] + b"\x07\0" + GOLDEN[8:], "nonsense"),
        (GOLDEN[:-9], "nonsense"),
        (GOLDEN + b"\0", "nonsense"),
        (GOLDEN[:12] + b"\0" * 99, "decompressed"),
        (GOLDEN[:12] + zlib.compress(b"\0" * (1 << 24), 9), "nonsense"),
        (_rebuilt(COUNTS_AT, 255), "nonsense"),
        (_rebuilt(0, 0xF0), "not known yet|tap"),
        (_rebuilt(1, 0x80), "tap"),
        (_rebuilt(DY_AT, 3), "tap"),
    ],
)
def test_a_malformed_model_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        PlaneModel.from_bytes(data)


@settings(max_examples=150)
@given(at=st.integers(0, len(zlib.decompress(GOLDEN[12:])) - 1), value=st.integers(0, 255))
def test_a_model_that_is_accepted_can_be_used(at: int, value: int) -> None:
    try:
        model = PlaneModel.from_bytes(_rebuilt(at, value))
    except CodecError:
        return
    assert isinstance(encode_planes(coded(7, size=1), model=model), bytes)


@pytest.mark.skipif(COMPILED is None, reason="the extension was not compiled")
@pytest.mark.parametrize(
    "wrong",
    [
        {"state": np.zeros(7, np.uint32)},
        {"slots": 0},
        {"slots": 1 << 40},
        {"taps": np.zeros((1, TAPS, 3), np.int16)},
        {"taps": np.full((1, TAPS, 4), 1, np.int16) * np.array([0, 0, 1, 1], np.int16)},
        {"taps": np.full((1, TAPS, 4), 3, np.int16)},
        {"layout": np.array([2, 3, 3, 0, 0, 1], np.int32)},
        {"layout": np.array([2, 3, 4, 0, 0, 0], np.int32)},
        {"layout": np.array([-2, -3, 3, 0, 0, 0], np.int32)},
        {"layout": np.array([2, 3, 3, -1, 0, 0], np.int32)},
        {"layout": np.array([1 << 30, 1 << 30, 1 << 30, 0, 0, 0], np.int32)},
        {"layout": np.zeros(7, np.int32)},
        {"layout": np.ones(6 * 65, np.int32)},
        {"values": np.zeros(17, np.int16)},
        {"scales": np.zeros(3, np.uint16)},
        {"contexts": np.zeros(1, np.int16)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_the_extension_checks_every_size(wrong: dict[str, object]) -> None:
    assert COMPILED is not None
    fits: dict[str, object] = {
        "state": blank_state(1),
        "slots": 1,
        "taps": np.zeros((1, TAPS, 4), np.int16),
        "layout": np.array([2, 3, 3, 0, 0, 0], np.int32),
        "values": np.ones(18, np.int16),
        "scales": np.zeros(2, np.uint16),
        "contexts": np.zeros(0, np.int16),
    }
    assert COMPILED.encode(*fits.values())  # type: ignore[arg-type]
    with pytest.raises((ValueError, OverflowError)):
        COMPILED.encode(*(fits | wrong).values())  # type: ignore[arg-type]
    with pytest.raises((ValueError, OverflowError)):
        COMPILED.decode(*(fits | wrong).values(), b"123")  # type: ignore[arg-type]


def test_stretch_undoes_squash() -> None:
    assert len(SQUASH) == len(STRETCH) == 4096
    assert sorted(SQUASH) == SQUASH and sorted(STRETCH) == STRETCH
    assert all(abs(STRETCH[SQUASH[x + 2048] >> 4] - x) <= 24 for x in range(-1000, 1001))


def drawn(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Bits, and the probability of 65536 that each had of being 1."""
    draw = numbers(seed)
    odds = [max(40, min(65_496, next(draw) % 65_536 >> next(draw) % 6)) for _ in range(count)]
    return [int(next(draw) % 65_536 < one) for one in odds], odds


@settings(max_examples=50)
@given(seed=st.integers(0, 1 << 30), count=st.integers(0, 300))
def test_bits_come_back(seed: int, count: int) -> None:
    bits, odds = drawn(count, seed)
    encoder = Encoder()
    for bit, one in zip(bits, odds, strict=True):
        encoder.code(bit, one)
    decoder = Decoder(encoder.finish())
    assert [decoder.code(0, one) for one in odds] == bits
    decoder.finish()


def test_bytes_are_as_few_as_an_oracle_needs() -> None:
    """The same bits and probabilities through constriction's range coder, and their information content."""
    constriction = pytest.importorskip("constriction", reason="no oracle for this platform")
    bits, odds = drawn(20_000, 11)
    encoder = Encoder()
    for bit, one in zip(bits, odds, strict=True):
        encoder.code(bit, one)
    chances = np.array(odds) / 65_536
    ideal = -np.log2(np.where(np.array(bits) == 1, chances, 1 - chances)).sum() / 8
    oracle = constriction.stream.queue.RangeEncoder()
    oracle.encode(np.array(bits, np.int32), constriction.stream.model.Bernoulli(perfect=False), chances)
    mine = len(encoder.finish())
    assert ideal <= mine <= 1.001 * ideal + 2
    assert mine <= 1.001 * oracle.num_bits() / 8 + 2


def test_a_kernel_is_chosen() -> None:
    assert KERNEL is (COMPILED or pure)


def test_an_example_of_a_later_tensor_makes_room_for_it() -> None:
    values = planes((2, 4, 4), 3)
    model = fit_plane_model([PlaneExample(values, scale_of(values), None, 2)])
    assert model.planes == (1, 1, 2)
