"""Stages of the table-free feature codecs: affine map, prediction, packing, each undone exactly or within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitmesh.codec import affine, symbols
from splitmesh.codec.container import parse
from splitmesh.codec.features import encode_features

GRIDS = st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 12))


@given(data=st.data(), shape=GRIDS, bits=st.integers(3, 8))
def test_predictions_are_undone_exactly(data: st.DataObject, shape: tuple[int, int, int], bits: int) -> None:
    top = (1 << bits) - 1
    grid = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, top)))
    for predict, undo in (
        (symbols.predict_from_above, symbols.undo_from_above),
        (symbols.predict_from_left, symbols.undo_from_left),
    ):
        predicted = predict(grid, top)
        assert predicted.max() <= top
        np.testing.assert_array_equal(undo(predicted.copy(), top), grid)


@given(flat=hnp.arrays(np.uint8, st.integers(1, 60), elements=st.integers(0, 15)))
def test_packing_puts_the_earlier_symbol_in_the_high_half(flat: np.ndarray) -> None:
    packed = symbols.pack(flat)
    even = np.append(flat, np.uint8(0))[: 2 * len(packed)]
    np.testing.assert_array_equal(packed, even[0::2] * 16 + even[1::2])
    np.testing.assert_array_equal(symbols.unpack(packed, flat.size), flat)


@pytest.mark.parametrize("shape", [(1, 70_000), (3, 40_000), (700, 100), (2, 1)])
@pytest.mark.parametrize("bits", [8, 3])
def test_blocks_of_any_shape_give_what_one_pass_gives(shape: tuple[int, int], bits: int) -> None:
    rng = np.random.default_rng(7)
    rows = (rng.standard_normal(shape) * rng.lognormal(0, 2, (shape[0], 1)) + 5).astype(np.float32)
    top = (1 << bits) - 1
    _, offset, step = affine.side_information(rows.min(axis=1), rows.max(axis=1), top)
    levels = affine.quantise(rows, offset, step)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.where(step[:, None] > 0, (rows.astype(np.float64) - offset[:, None]) / step[:, None], 0.0)
    assert levels.max() <= top and np.abs(levels - exact).max() <= 0.5 + 1e-4
    expected = levels * step[:, None] + offset[:, None]
    np.testing.assert_array_equal(affine.dequantise(levels, offset, step), expected)


@given(
    rows=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(2, 30)),
        elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False),
    ),
    bits=st.integers(3, 8),
)
def test_no_level_wraps_though_nothing_is_clipped(rows: np.ndarray, bits: int) -> None:
    top = (1 << bits) - 1
    low, high = rows.min(axis=1), rows.max(axis=1)
    _, offset, step = affine.side_information(low, high, top)
    levels = affine.quantise(rows, offset, step)
    assert levels.max() <= top
    for row, which in zip(rows, levels, strict=True):
        assert which[row.argmin()] == which.min() and which[row.argmax()] == which.max()
        assert which.min() == 0


def test_entropy_of_even_symbols_is_their_bits_and_of_one_symbol_none() -> None:
    even = np.tile(np.arange(16, dtype=np.uint8), 64).reshape(4, 16, 16)
    assert symbols.entropy(even) == pytest.approx(4)
    assert symbols.entropy(np.full((3, 5, 5), 9, np.uint8)) == pytest.approx(0)


@pytest.mark.parametrize(
    ("shape", "mode"), [((1, 3, 24, 24), 0x04), ((1, 3, 400), 0x02)], ids=["from above", "from the left"]
)
def test_smooth_tensors_are_predicted_along_what_they_have(shape: tuple[int, ...], mode: int) -> None:
    ramp = np.linspace(0, 6, shape[-1], dtype=np.float32)
    tensor = np.broadcast_to(np.sin(ramp), shape).copy()
    if len(shape) == 4:
        tensor = np.ascontiguousarray(np.sin(tensor + np.linspace(0, 4, shape[2])[None, None, :, None]), np.float32)
    (section,) = parse(encode_features({"t": tensor}, codec="u8zstd", level=8)).sections
    assert section.mode & ~0x01 == mode
