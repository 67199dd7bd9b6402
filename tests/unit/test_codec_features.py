"""The feature codec: error bounds, sizes, refusals, and that every lie in a payload is a CodecError."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitmesh.codec.container import HEAD_BYTES
from splitmesh.codec.features import decode_features, encode_features
from splitmesh.codec.registry import FEATURE_CODECS
from splitmesh.errors import CodecError

GOLDEN = Path(__file__).parents[1] / "golden" / "codec"
POINTS = [(codec, level) for codec, levels in FEATURE_CODECS.items() for level in levels]


def smooth(channels: int = 16, side: int = 19, seed: int = 3) -> np.ndarray:
    """Feature-like tensor (1, C, H, W): a smooth field of its own scale and offset per channel, plus noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    phase = rng.uniform(0, 6, (channels, 2, 1, 1))
    field = (
        np.sin(3 * x + phase[:, 0]) + np.cos(4 * y + phase[:, 1]) + 0.1 * rng.standard_normal((channels, side, side))
    )
    field = field * rng.uniform(0.2, 5, (channels, 1, 1)) + rng.uniform(-10, 10, (channels, 1, 1))
    return field[None].astype(np.float32)


def shapes(tensors: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def resealed(payload: bytes | bytearray) -> bytes:
    """The payload with a checksum that fits it, as a hostile sender would make it."""
    head, body = bytes(payload[: HEAD_BYTES - 4]), bytes(payload[HEAD_BYTES:])
    return head + zlib.crc32(head + body).to_bytes(4, "little") + body


@pytest.mark.parametrize(("codec", "level"), POINTS)
def test_round_trip_is_within_half_a_step(codec: str, level: int) -> None:
    tensor = smooth()
    out = decode_features(encode_features({"cut": tensor}, codec=codec, level=level), expect={"cut": tensor.shape})
    step = np.ptp(tensor, axis=(2, 3), keepdims=True) / (2**level - 1)
    assert out["cut"].dtype == np.float32 and out["cut"].flags.c_contiguous
    assert (np.abs(out["cut"] - tensor) <= step * 0.5626).all()


@pytest.mark.parametrize("codec", FEATURE_CODECS)
def test_coarser_levels_are_smaller_and_worse(codec: str) -> None:
    tensor = smooth()
    payloads = [encode_features({"cut": tensor}, codec=codec, level=level) for level in FEATURE_CODECS[codec]]
    errors = [
        float(np.square(decode_features(p, expect={"cut": tensor.shape})["cut"] - tensor).mean()) for p in payloads
    ]
    assert sorted(map(len, payloads), reverse=True) == [len(p) for p in payloads]
    assert errors == sorted(errors)
    assert len(payloads[-1]) < tensor.nbytes / 8


def test_zstd_with_prediction_beats_lz4_on_smooth_features() -> None:
    tensor = smooth(64)
    lz4, zstd = (len(encode_features({"c": tensor}, codec=codec, level=5)) for codec in ("u8lz4", "u8zstd"))
    assert zstd < 0.9 * lz4


@settings(max_examples=150)
@given(
    tensor=hnp.arrays(
        np.float32,
        st.one_of(
            st.tuples(st.just(1), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)),
            st.tuples(st.just(1), st.integers(1, 40)),
            st.tuples(st.just(1), st.integers(1, 4), st.integers(1, 40)),
        ),
        elements=st.one_of(
            st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
            st.floats(-8, 8, width=32, allow_subnormal=False),
            st.just(0.0),
        ),
    ),
    point=st.sampled_from(POINTS),
)
def test_any_finite_tensor_survives(tensor: np.ndarray, point: tuple[str, int]) -> None:
    codec, level = point
    out = decode_features(encode_features({"t": tensor}, codec=codec, level=level), expect={"t": tensor.shape})["t"]
    span = float(tensor.max()) - float(tensor.min())
    largest = float(np.abs(tensor).max())
    assert out.shape == tensor.shape and bool(np.isfinite(out).all())
    slack = span / (2**level - 1) * 0.5626 + largest * 4e-7 + 3e-28
    assert float(np.abs(out.astype(np.float64) - tensor).max()) <= slack


def test_many_tensors_keep_names_values_and_the_order_asked_for() -> None:
    tensors = {"b/x:0": smooth(4, 7), "a": smooth(8, 19, 5), "vector": np.linspace(-1, 1, 40, dtype=np.float32)[None]}
    payload = encode_features(tensors, codec="u8zstd", level=8)
    expect = dict(reversed(shapes(tensors).items()))
    out = decode_features(payload, expect=expect)
    assert list(out) == ["vector", "a", "b/x:0"]
    for name, tensor in tensors.items():
        assert np.abs(out[name] - tensor).max() < np.ptp(tensor) / 200


def test_constant_channels_and_small_variations_on_a_large_mean_are_kept() -> None:
    tensor = smooth(4)
    tensor[0, 1] = 7.25
    tensor[0, 2] = 4000 + tensor[0, 2] / 10
    tensor[0, 3] = 0
    out = decode_features(encode_features({"t": tensor}, codec="u8lz4", level=8), expect={"t": tensor.shape})["t"]
    assert (out[0, 1] == 7.25).all() and (out[0, 3] == 0).all()
    assert np.abs(out[0, 2] - tensor[0, 2]).max() <= np.ptp(tensor[0, 2]) / 255 * 0.57


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e30, -2e30])
def test_what_is_not_finite_is_refused_by_name(bad: float) -> None:
    tensor = smooth(4)
    tensor[0, 2, 3, 4] = bad
    with pytest.raises(CodecError, match="'neck' holds NaN, Inf"):
        encode_features({"fine": smooth(2), "neck": tensor}, codec="u8lz4", level=8)


@pytest.mark.parametrize(
    "tensors",
    [
        {"t": np.zeros((1, 3, 4, 4), np.float64)},
        {"t": np.zeros((2, 3, 4, 4), np.float32)},
        {"t": np.zeros((1, 0, 4, 4), np.float32)},
        {"t": np.zeros((5,), np.float32)},
        {"t": np.zeros((1, 2, 2, 2, 2), np.float32)},
        {"n" * 300: np.zeros((1, 2, 4, 4), np.float32)},
        {},
        {str(i): np.zeros((1, 2), np.float32) for i in range(17)},
    ],
    ids=["float64", "batch", "empty", "vector", "5-d", "name", "none", "many"],
)
def test_what_does_not_fit_is_refused(tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(CodecError):
        encode_features(tensors, codec="u8lz4", level=8)


@pytest.mark.parametrize(("codec", "level"), [("u8lz4", 9), ("u8lz4", 2), ("u8zstd", 0), ("jpeg", 95), ("u9", 8)])
def test_unknown_codecs_and_levels_are_refused(codec: str, level: int) -> None:
    with pytest.raises(CodecError):
        encode_features({"t": smooth(2)}, codec=codec, level=level)


def test_other_names_or_shapes_than_expected_are_refused() -> None:
    payload = encode_features({"t": smooth(4)}, codec="u8lz4", level=8)
    for expect in ({"u": (1, 4, 19, 19)}, {"t": (1, 4, 19, 18)}, {}, {"t": (1, 4, 19, 19), "u": (1, 1)}):
        with pytest.raises(CodecError, match="expected"):
            decode_features(payload, expect=expect)


@pytest.mark.parametrize(("codec", "level"), [("u8lz4", 8), ("u8zstd", 4)])
def test_every_truncation_and_every_flipped_bit_is_found(codec: str, level: int) -> None:
    tensor = smooth(2, 8)
    payload = encode_features({"t": tensor}, codec=codec, level=level)
    for end in range(len(payload)):
        with pytest.raises(CodecError):
            decode_features(payload[:end], expect={"t": tensor.shape})
    with pytest.raises(CodecError):
        decode_features(payload + b"\0", expect={"t": tensor.shape})
    for bit in range(8 * len(payload)):
        broken = bytearray(payload)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CodecError):
            decode_features(broken, expect={"t": tensor.shape})


@settings(max_examples=600)
@given(data=st.data(), point=st.sampled_from([("u8lz4", 8), ("u8zstd", 4), ("u8zstd", 6)]))
def test_hostile_payloads_with_a_fitting_checksum_decode_or_raise(
    data: st.DataObject, point: tuple[str, int]
) -> None:
    tensors = {"t": smooth(3, 8), "v": np.linspace(0, 9, 33, dtype=np.float32)[None]}
    payload = bytearray(encode_features(tensors, codec=point[0], level=point[1]))
    edits = st.tuples(
        st.one_of(st.integers(0, 120), st.integers(0, len(payload) - 1)),
        st.one_of(st.sampled_from([0, 1, 127, 128, 255]), st.integers(0, 255)),
    )
    for at, value in data.draw(st.lists(edits, min_size=1, max_size=6)):
        payload[at] = value
    try:
        out = decode_features(resealed(payload), expect=shapes(tensors))
    except CodecError:
        return
    assert shapes(out) == shapes(tensors)
    assert all(np.isfinite(tensor).all() for tensor in out.values())


@given(noise=st.binary(max_size=300))
def test_noise_is_no_payload(noise: bytes) -> None:
    for payload in (noise, b"SM\x01\x01\x08\x01" + noise):
        with pytest.raises(CodecError):
            decode_features(payload, expect={"t": (1, 2, 8, 8)})


def lying(payload: bytes, at: int, value: int) -> bytes:
    broken = bytearray(payload)
    broken[at : at + 4] = value.to_bytes(4, "little")
    return resealed(broken)


def test_lengths_that_lie_are_refused_before_anything_is_allocated() -> None:
    tensor = smooth(2, 8)
    payload = encode_features({"t": tensor}, codec="u8lz4", level=8)
    table = HEAD_BYTES  # name length, "t", ndim, four dims, mode, side length, data length
    dimension, side, data = table + 3, table + 3 + 16 + 1, table + 3 + 16 + 1 + 4
    chunk = data + 4 + int.from_bytes(payload[side : side + 4], "little")
    for at in (6, dimension, dimension + 12, side, data, chunk + 4, chunk + 12):
        truth = int.from_bytes(payload[at : at + 4], "little")
        for value in {0, 1, truth + 1, 0x7FFFFFFF, 0xFFFFFFFF} - {truth}:
            with pytest.raises(CodecError):
                decode_features(lying(payload, at, value), expect={"t": tensor.shape})


@pytest.mark.parametrize(("codec", "level"), [("u8lz4", 8), ("u8zstd", 5), ("u8zstd", 4), ("u8zstd", 3)])
def test_golden_payloads_still_decode_to_the_same_values(codec: str, level: int) -> None:
    """Bytes of the encoder may change with its libraries; what an old payload means may not."""
    payload = (GOLDEN / f"{codec}-{level}.bin").read_bytes()
    expected = np.load(GOLDEN / f"{codec}-{level}.npz")
    out = decode_features(payload, expect={name: expected[name].shape for name in expected.files})
    for name in expected.files:
        np.testing.assert_array_equal(out[name], expected[name])
