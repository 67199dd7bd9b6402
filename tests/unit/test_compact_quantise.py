"""The compact codec's quantiser: what it rounds to, and what elements make up for what their neighbours lack."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitmesh.codec.compact.quantise import LARGEST_SYMBOL, PASSED_ON, ROUNDING, quantise
from splitmesh.codec.compact.transform import UNIT, step_of


def one_by_one(z: np.ndarray, step: int) -> np.ndarray:
    """The definition, element after element, for planes of more than one row and column."""
    steps = z * np.float32(UNIT / step)
    symbols = np.zeros(z.shape, np.int16)
    passed = np.zeros((len(z), z.shape[1] + 1, z.shape[2] + 1), np.float32)
    for y, x in np.ndindex(*z.shape[1:]):
        wanted = steps[:, y, x] + (passed[:, y, x + 1] + passed[:, y + 1, x])
        rounded = np.trunc(wanted + np.copysign(np.float32(ROUNDING), wanted))
        symbols[:, y, x] = rounded
        passed[:, y + 1, x + 1] = (wanted - rounded) * np.float32(PASSED_ON)
    return symbols


def plain(z: np.ndarray, step: int) -> np.ndarray:
    return (np.sign(z) * np.floor(np.abs(z) * np.float32(UNIT / step) + np.float32(ROUNDING))).astype(np.int16)


def planes(*shape: int, seed: int = 1, size: float = 1.5) -> np.ndarray:
    return (size * np.random.default_rng(seed).laplace(size=shape)).astype(np.float32)


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(2, 9), st.integers(2, 9)),
    seed=st.integers(0, 1000),
    size=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_planes_are_rounded_as_if_one_element_after_the_other(shape: tuple[int, ...], seed: int, size: float) -> None:
    z = planes(*shape, seed=seed, size=size)
    for step in (UNIT, step_of(120)):
        np.testing.assert_array_equal(quantise(z, step), one_by_one(z, step))


@pytest.mark.parametrize("shape", [(4, 1, 1), (3, 1, 17), (3, 17, 1), (1, 1, 300)])
def test_a_row_or_a_column_has_no_neighbours(shape: tuple[int, ...]) -> None:
    z = planes(*shape)
    np.testing.assert_array_equal(quantise(z, UNIT), plain(z, UNIT))


@pytest.mark.parametrize("size", [0.2, 0.5, 2.0])
def test_neighbours_err_less_together_than_if_each_is_rounded_alone(size: float) -> None:
    z = planes(8, 30, 30, size=size)

    def together(symbols: np.ndarray) -> float:
        error = z - symbols
        near = sum(error[:, i : 28 + i, j : 28 + j] for i in range(3) for j in range(3))
        return float(np.square(near).mean())

    assert together(quantise(z, UNIT)) < 0.85 * together(plain(z, UNIT))


def test_what_is_a_little_too_small_everywhere_is_not_lost_everywhere() -> None:
    z = np.full((1, 16, 16), 0.45, np.float32)
    assert not plain(z, UNIT).any()
    assert 0.25 < quantise(z, UNIT).mean() < 0.45


@pytest.mark.parametrize("shape", [(2, 6, 6), (2, 1, 6)])
def test_what_no_symbol_holds_is_held(shape: tuple[int, ...]) -> None:
    signs = np.where(np.arange(np.prod(shape)) % 3, 1, -1).reshape(shape).astype(np.float32)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(quantise(1e30 * signs, 16), LARGEST_SYMBOL * signs)


def test_the_caller_keeps_its_components() -> None:
    z = planes(3, 5, 4)
    before = z.copy()
    quantise(z, UNIT)
    np.testing.assert_array_equal(z, before)
