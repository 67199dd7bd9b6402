"""Which changes the temporal encoder codes: those that tell more than they cost where they are."""

from __future__ import annotations

import numpy as np
import pytest

from splitmesh.codec.compact.quantise import LARGEST_SYMBOL
from splitmesh.codec.temporal.decide import quantise_residual

SHAPE = (8, 7, 9)
SCALE = np.full(8, 16, np.uint16)


def lone(value: float) -> np.ndarray:
    residual = np.zeros(SHAPE, np.float32)
    residual[3, 4, 5] = value
    return residual


@pytest.mark.parametrize(("value", "symbol"), [(0.75, 0), (-0.75, 0), (1.0, 1), (-1.0, -1), (1.65, 2), (2.5, 2)])
def test_a_change_on_its_own_must_be_large(value: float, symbol: int) -> None:
    symbols = quantise_residual(lone(value), SCALE)
    assert symbols[3, 4, 5] == symbol and np.count_nonzero(symbols) == abs(np.sign(symbol))


def test_a_change_among_others_may_be_smaller() -> None:
    residual = lone(0.75)
    residual[:, 3:6, 4:7] = np.where(residual[:, 3:6, 4:7] == 0, 1.2, residual[:, 3:6, 4:7])
    assert quantise_residual(residual, SCALE)[3, 4, 5] == 1


def test_a_component_of_which_more_is_expected_is_coded_sooner() -> None:
    eager = SCALE.copy()
    eager[3] = 4000
    assert quantise_residual(lone(0.8), eager)[3, 4, 5] == 1
    assert quantise_residual(lone(0.8), SCALE)[3, 4, 5] == 0


def test_what_no_symbol_holds_is_held() -> None:
    assert quantise_residual(lone(1e9), SCALE)[3, 4, 5] == LARGEST_SYMBOL - 1
    assert quantise_residual(lone(-1e9), SCALE)[3, 4, 5] == 1 - LARGEST_SYMBOL
