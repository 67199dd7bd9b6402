"""The compact codec: what it promises of errors and sizes, what it refuses, and that no lie gets past its decoder."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.intra import decode_compact, encode_compact, kept_scale
from splitmesh.codec.compact.quantise import PASSED_ON, ROUNDING, dequantise, quantise, to_units
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.compact.transform import UNIT, step_of
from splitmesh.codec.head import HEAD_BYTES, Head, State, build_payload, parse_head
from splitmesh.errors import CodecError, NeedTable

Tensors = dict[str, np.ndarray]


@cache
def frames(shape: tuple[int, ...], axis: int = 1, count: int = 12, seed: int = 5) -> np.ndarray:
    """(count, *shape): channels along `axis` mix a few smooth fields of falling strength, with their own offsets."""
    rng = np.random.default_rng(seed)
    channels = shape[axis - 1]
    rest = [size for at, size in enumerate(shape) if at != axis - 1]
    strength = 8.0 * 0.7 ** np.arange(channels)
    fields = rng.standard_normal((count, channels, *rest))
    for at in range(2, fields.ndim):
        fields = (fields + np.roll(fields, 1, at) + np.roll(fields, 2, at)) / np.sqrt(3)
    mix = np.linalg.qr(rng.standard_normal((channels, channels)))[0]
    mixed = np.einsum("dc,nc...->nd...", mix * strength, fields)
    mixed += rng.uniform(-5, 5, channels).reshape(1, -1, *[1] * len(rest))
    return np.ascontiguousarray(np.moveaxis(mixed, 1, axis).astype(np.float32))


@cache
def table_of(*shapes: tuple[int, ...]) -> CompactTable:
    return fit_table({f"t{i}": frames(shape, seed=i) for i, shape in enumerate(shapes)})


def tensors_of(*shapes: tuple[int, ...], frame: int = 0) -> Tensors:
    return {f"t{i}": frames(shape, seed=i)[frame : frame + 1] for i, shape in enumerate(shapes)}


def decoded(payload: bytes, table: CompactTable, like: Tensors) -> Tensors:
    return decode_compact(
        payload,
        tables=lambda prefix: table if table.id.startswith(prefix.hex()) else None,
        expect={name: tensor.shape for name, tensor in like.items()},
    )


def resealed(payload: bytes | bytearray) -> bytes:
    """The payload with a checksum that fits it, as a hostile sender would make it."""
    start, body = bytes(payload[: HEAD_BYTES - 4]), bytes(payload[HEAD_BYTES:])
    return start + zlib.crc32(start + body).to_bytes(4, "little") + body


PLAIN = (16, 9, 11)
CASES = [(PLAIN,), ((16, 40),), ((16, 9, 11), (24, 5, 6)), ((1, 3, 3),), ((12, 1, 1),)]


@pytest.mark.parametrize("shapes", CASES, ids=str)
def test_components_come_back_within_a_step_less_what_is_rounded_up_and_what_neighbours_pass_on(
    shapes: tuple[tuple[int, ...], ...],
) -> None:
    table, tensors = table_of(*shapes), tensors_of(*shapes)
    for level in (72, 88, 120):
        out = decoded(encode_compact(tensors, table=table, level=level), table, tensors)
        assert list(out) == list(tensors)
        for tensor in table.tensors:
            kept = len(kept_scale(tensor, level))
            x, back = tensors[tensor.name], out[tensor.name]
            assert back.shape == x.shape and back.dtype == np.float32 and back.flags.c_contiguous
            error = np.abs(tensor.forward(x, kept) - tensor.forward(back, kept)).max()
            steps = (1.001 - ROUNDING) * (1 + 2 * PASSED_ON)
            assert error <= steps * step_of(level) / UNIT + 0.02


@pytest.mark.parametrize("shapes", CASES, ids=str)
def test_finer_levels_are_larger_and_better(shapes: tuple[tuple[int, ...], ...]) -> None:
    table, tensors = table_of(*shapes), tensors_of(*shapes)
    sizes, errors = [], []
    for level in (64, 80, 96, 112):
        payload = encode_compact(tensors, table=table, level=level)
        sizes.append(len(payload))
        out = decoded(payload, table, tensors)
        errors.append(sum(float(np.square(out[name] - tensors[name]).mean()) for name in tensors))
    assert (np.diff(sizes) >= -1).all() and sizes[0] < sizes[-1]  # nine elements may take a byte less at a finer step
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-2 * errors[0]


def test_the_finest_levels_lose_next_to_nothing() -> None:
    table, tensors = table_of(PLAIN), tensors_of(PLAIN)
    out = decoded(encode_compact(tensors, table=table, level=160), table, tensors)
    assert np.abs(out["t0"] - tensors["t0"]).max() < 2e-3 * np.ptp(tensors["t0"])


def test_the_coarsest_level_is_the_mean_and_costs_a_head() -> None:
    table, tensors = table_of(PLAIN), tensors_of(PLAIN)
    payload = encode_compact(tensors, table=table, level=0)
    assert len(payload) < HEAD_BYTES + 4
    out = decoded(payload, table, tensors)["t0"]
    np.testing.assert_allclose(out[0, :, 3, 4], table.tensors[0].mean, rtol=1e-6)


def test_other_frames_than_those_fitted_need_far_less_than_their_raw_size() -> None:
    shape = (32, 19, 19)
    x = frames(shape, count=13, seed=9)
    table = fit_table({"t0": x[:12]})
    payload = encode_compact({"t0": x[12:]}, table=table, level=80)
    back = decoded(payload, table, {"t0": x[12:]})["t0"]
    assert len(payload) < x[12:].nbytes / 40
    assert np.square(back - x[12:]).mean() < 0.02 * x[12:].var()


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [
        ((16, 9, 11), 1, 1), ((9, 9, 16), 3, 3), ((16, 90), 1, 1), ((90, 16), 2, 2), ((300,), 1, 0),
    ],
)  # fmt: skip
def test_the_axis_of_the_channels_is_found(shape: tuple[int, ...], axis: int, expected: int) -> None:
    x = frames(shape, axis)
    table = fit_table({"t": x})
    assert table.tensors[0].axis == expected
    back = decoded(encode_compact({"t": x[:1]}, table=table, level=140), table, {"t": x[:1]})["t"]
    assert np.abs(back - x[:1]).max() < 0.01 * np.ptp(x)


@pytest.mark.parametrize(("channels", "most"), [(160, 160), (600, 218)])
def test_a_table_has_as_many_components_as_fit_into_a_message(channels: int, most: int) -> None:
    x = np.random.default_rng(0).standard_normal((24, channels, 16, 16)).astype(np.float32)
    x *= np.linspace(4, 1, channels, dtype=np.float32)[:, None, None]
    x = x[: max(8, 1 + 4 * channels**2 // x[0].size)]
    table = fit_table({"t": x})
    assert len(table.tensors[0].spread) == most
    assert len(table.to_bytes()) < 1 << 20
    back = decoded(encode_compact({"t": x[:1]}, table=table, level=128), table, {"t": x[:1]})["t"]
    lost = np.square(back - x[:1]).sum() / np.square(x[:1]).sum()
    assert lost < 1e-3 if most == channels else lost > 1e-3


def test_what_the_metric_calls_unimportant_is_coded_coarsely() -> None:
    x = np.random.default_rng(0).standard_normal((12, 6, 16, 16)).astype(np.float32)
    metric = np.diag([1.0, 1, 1, 1, 1, 0])
    table = fit_table({"t": x}, {"t": metric})
    back = decoded(encode_compact({"t": x[:1]}, table=table, level=80), table, {"t": x[:1]})["t"]
    error = np.square(back - x[:1]).mean(axis=(0, 2, 3))
    assert error[5] > 3 * error[:5].max()


def test_a_metric_of_nothing_is_none() -> None:
    x = frames(PLAIN)
    assert fit_table({"t": x}, {"t": np.zeros((16, 16))}).id == fit_table({"t": x}).id


@pytest.mark.parametrize("metric", [np.eye(15), np.full((16, 16), np.nan)])
def test_metrics_that_do_not_fit_are_refused(metric: np.ndarray) -> None:
    with pytest.raises(CodecError, match="metric of tensor 't'"):
        fit_table({"t": frames(PLAIN)}, {"t": metric})


def test_tensors_share_one_scale_of_importance() -> None:
    rng = np.random.default_rng(0)
    x = {name: rng.standard_normal((12, 4, 12, 12)).astype(np.float32) for name in ("a", "b")}
    table = fit_table(x, {"a": np.eye(4), "b": np.eye(4) / 64})
    one = {name: frames_[:1] for name, frames_ in x.items()}
    back = decoded(encode_compact(one, table=table, level=80), table, one)
    assert np.square(back["b"] - one["b"]).mean() > 20 * np.square(back["a"] - one["a"]).mean()


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_features_that_never_change_cost_nothing(value: float) -> None:
    x = np.full((4, 3, 5, 5), value, np.float32)
    table = fit_table({"t": x})
    payload = encode_compact({"t": x[:1]}, table=table, level=100)
    np.testing.assert_array_equal(decoded(payload, table, {"t": x[:1]})["t"], x[:1])
    assert len(payload) <= HEAD_BYTES + 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e30])
def test_what_no_step_can_hold_is_refused_by_name(value: float) -> None:
    tensors = {"t0": tensors_of(PLAIN)["t0"].copy()}
    tensors["t0"][0, 3, 2, 1] = value
    with pytest.raises(CodecError, match="'t0' holds NaN, Inf or magnitudes"):
        encode_compact(tensors, table=table_of(PLAIN), level=80)


def test_large_elements_are_held_not_wrapped() -> None:
    table, tensors = table_of(PLAIN), {"t0": tensors_of(PLAIN)["t0"] * 1e20}
    with np.errstate(all="raise"):
        out = decoded(encode_compact(tensors, table=table, level=100), table, tensors)["t0"]
    assert np.isfinite(out).all() and np.corrcoef(out.ravel(), tensors["t0"].ravel())[0, 1] > 0


@pytest.mark.parametrize(
    "tensors",
    [
        {"other": np.zeros((1, *PLAIN), np.float32)},
        {"t0": np.zeros((1, 16, 11, 9), np.float32)},
        {"t0": np.zeros((1, *PLAIN), np.float64)},
        {},
    ],
)
def test_tensors_that_are_not_the_tables_are_refused(tensors: Tensors) -> None:
    with pytest.raises(CodecError, match="tensor"):
        encode_compact(tensors, table=table_of(PLAIN), level=80)


@pytest.mark.parametrize("level", [-1, 256])
def test_levels_out_of_range_are_refused(level: int) -> None:
    with pytest.raises(CodecError, match="level"):
        encode_compact(tensors_of(PLAIN), table=table_of(PLAIN), level=level)


def test_a_table_that_is_not_held_is_asked_for() -> None:
    payload = encode_compact(tensors_of(PLAIN), table=table_of(PLAIN), level=80)
    with pytest.raises(NeedTable) as caught:
        decode_compact(payload, tables=lambda _: None, expect={"t0": (1, *PLAIN)})
    assert table_of(PLAIN).id.startswith(caught.value.table_id.hex())


@pytest.mark.parametrize("expect", [{"t0": (1, 16, 11, 9)}, {"x": (1, *PLAIN)}, {}])
def test_another_cuts_payload_is_refused(expect: dict[str, tuple[int, ...]]) -> None:
    payload = encode_compact(tensors_of(PLAIN), table=table_of(PLAIN), level=80)
    with pytest.raises(CodecError, match="not of the tensors expected"):
        decode_compact(payload, tables=lambda _: table_of(PLAIN), expect=expect)


def test_payloads_of_other_codecs_are_refused() -> None:
    table = table_of(PLAIN)
    stateful = build_payload(Head("temporal", 80, 0, table.short_id, State(1, 1, 0)), b"")
    flagged = build_payload(Head("compact", 80, 1, table.short_id), b"")
    for payload in (stateful, flagged):
        with pytest.raises(CodecError, match="is coded with"):
            decoded(payload, table, tensors_of(PLAIN))


@pytest.mark.parametrize("cut", [0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 5, -1])
def test_cut_payloads_are_refused(cut: int) -> None:
    payload = encode_compact(tensors_of(PLAIN), table=table_of(PLAIN), level=80)
    with pytest.raises(CodecError):
        decoded(payload[:cut], table_of(PLAIN), tensors_of(PLAIN))


@settings(max_examples=150)
@given(at=st.integers(0, 10_000), value=st.integers(1, 255), seal=st.booleans())
def test_altered_payloads_decode_to_the_expected_shapes_or_are_refused(at: int, value: int, seal: bool) -> None:
    table, tensors = table_of(PLAIN), tensors_of(PLAIN)
    payload = bytearray(encode_compact(tensors, table=table, level=80))
    payload[at % len(payload)] ^= value
    try:
        out = decoded(resealed(payload) if seal else bytes(payload), table, tensors)
    except CodecError:
        return
    assert seal, "the checksum covers every byte"
    assert out["t0"].shape == (1, *PLAIN)


def test_a_table_is_its_bytes() -> None:
    shapes = ((16, 9, 11), (24, 5, 6))
    table = table_of(*shapes)
    again = CompactTable.from_bytes(table.to_bytes())
    assert again.id == table.id and again.to_bytes() == table.to_bytes()
    assert replace(again).to_bytes() == table.to_bytes(), "the parts, read back, give the bytes they came from"
    tensors = tensors_of(*shapes)
    payload = encode_compact(tensors, table=table, level=80)
    assert encode_compact(tensors, table=again, level=80) == payload
    assert fit_table({f"t{i}": frames(shape, seed=i) for i, shape in enumerate(shapes)}).id == table.id


@settings(max_examples=200)
@given(at=st.integers(0, 100_000), value=st.integers(1, 255), cut=st.booleans())
def test_altered_tables_are_tables_or_refused(at: int, value: int, cut: bool) -> None:
    data = bytearray(table_of((4, 3, 3)).to_bytes())
    at %= min(len(data), 400) if value % 2 else len(data)
    if cut:
        with pytest.raises(CodecError):
            CompactTable.from_bytes(data[:at])
        return
    data[at] ^= value
    try:
        table = CompactTable.from_bytes(data)
    except CodecError:
        return
    assert CompactTable.from_bytes(table.to_bytes()).id == table.id


def test_tables_have_an_end_and_a_largest_size() -> None:
    data = table_of((4, 3, 3)).to_bytes()
    for wrong in (data + b"\0", data + bytes(1 << 23), b"", b"SMCT\1\0"):
        with pytest.raises(CodecError):
            CompactTable.from_bytes(wrong)


@pytest.mark.parametrize("level", [0, 60, 90, 128, 255])
def test_reconstruction_is_in_integers_and_bounded(level: int) -> None:
    z = np.array([[[-1e30, -300, -0.4, 0, 0.6, 300, 1e30]]], np.float32)
    symbols = quantise(z, step_of(level))
    values = dequantise(symbols, step_of(level))
    assert symbols.dtype == np.int16 and values.dtype == np.int32
    assert np.abs(values).max() <= 1 << 30 and (np.diff(values) >= 0).all()
    assert np.isfinite(to_units(values)).all()


@pytest.mark.parametrize(
    "head",
    [
        Head("compact", 80, 0, b"abcd"),
        Head("compact", 255, 255, bytes(4)),
        Head("temporal", 80, 3, b"abcd", State(65535, 0, 2**32 - 1)),
    ],
)
def test_heads_come_back(head: Head) -> None:
    payload = build_payload(head, b"body")
    assert len(payload) == (14 if head.state is None else 22) + 4
    assert parse_head(payload)[0] == head and bytes(parse_head(payload)[1]) == b"body"


@pytest.mark.parametrize(
    "head",
    [
        Head("compact", 256, 0, b"abcd"),
        Head("compact", 80, 0, b"abc"),
        Head("compact", 80, 0, b"abcd", State(0, 0, 0)),
        Head("temporal", 80, 0, b"abcd"),
        Head("temporal", 80, 0, b"abcd", State(65536, 0, 0)),
        Head("nonesuch", 80, 0, b"abcd"),
    ],
)
def test_heads_that_do_not_fit_are_refused(head: Head) -> None:
    with pytest.raises(CodecError):
        build_payload(head, b"")
