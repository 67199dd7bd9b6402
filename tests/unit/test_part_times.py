"""Which batches are timed, so that planning stays small."""

from __future__ import annotations

import pytest

from splitmesh.inference.planning.times import BATCH_BYTES, affordable_batches
from splitmesh.plan.bundle.schema import Strip


def strip(*elements: int) -> Strip:
    return Strip(
        ops=("Conv",) * len(elements),
        elements=elements,
        shares=tuple((i + 1) / len(elements) for i in range(len(elements))),
        index=tuple(range(len(elements))),
    )


@pytest.mark.parametrize(
    ("largest", "timed"),
    [
        (300 * 300 * 16, (2, 4, 8)),
        (BATCH_BYTES // (4 * 4 * 8), (2, 4, 8)),
        (BATCH_BYTES // (4 * 4 * 8) + 1, (2, 4)),
        (640 * 640 * 16, (2,)),
        (640 * 640 * 64, ()),
    ],
)
def test_large_frontiers_are_timed_in_small_batches(largest: int, timed: tuple[int, ...]) -> None:
    assert affordable_batches(strip(1000, largest, 10)) == timed


def test_a_model_without_nodes_takes_any() -> None:
    assert affordable_batches(strip()) == (2, 4, 8)
