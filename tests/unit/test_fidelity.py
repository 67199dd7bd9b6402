"""Agreement of answers: known counts and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import agreement, f1_at_iou


def answer(*rows: tuple[tuple[float, float, float, float], float, int]) -> Answer:
    return Answer(
        np.array([r[0] for r in rows], np.float32).reshape(-1, 4),
        np.array([r[1] for r in rows], np.float32),
        np.array([r[2] for r in rows], np.uint16),
    )


A, B, C = (0.0, 0.0, 0.2, 0.2), (0.5, 0.5, 0.9, 0.9), (0.0, 0.0, 0.2, 0.19)


@pytest.mark.parametrize(
    ("mine", "reference", "expected"),
    [
        ([], [], 1.0),
        ([(A, 0.9, 1)], [], 0.0),
        ([], [(A, 0.9, 1)], 0.0),
        ([(A, 0.9, 1)], [(A, 0.4, 1)], 1.0),
        ([(A, 0.9, 1)], [(A, 0.9, 2)], 0.0),
        ([(A, 0.9, 1), (B, 0.9, 1)], [(A, 0.9, 1)], 2 / 3),
        ([(A, 0.9, 1), (C, 0.8, 1)], [(A, 0.9, 1)], 2 / 3),
        ([(A, 0.9, 1), (B, 0.2, 1)], [(A, 0.9, 1)], 1.0),
        ([(A, 0.9, 1)], [(A, 0.9, 1), (B, 0.29, 1)], 1.0),
    ],
)
def test_f1_of_known_answers(mine: list, reference: list, expected: float) -> None:
    assert f1_at_iou(answer(*mine), answer(*reference)) == pytest.approx(expected)


def test_the_better_box_takes_the_reference_that_it_overlaps_most() -> None:
    mine = answer((C, 0.9, 1), (A, 0.8, 1))
    assert f1_at_iou(mine, answer((A, 0.9, 1), (C, 0.9, 1)), iou=0.99) == 1.0
    assert f1_at_iou(mine, answer((A, 0.9, 1)), iou=0.99) == pytest.approx(2 / 3)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    grid = st.integers(0, 7)
    rows = draw(
        st.lists(st.tuples(grid, grid, st.integers(1, 8), st.integers(0, 100), st.integers(0, 2)), max_size=10)
    )
    return answer(*(((x / 16, y / 16, (x + s) / 16, (y + s) / 16), p / 100, c) for x, y, s, p, c in rows))


@given(answers(), answers())
def test_f1_is_bounded(a: Answer, b: Answer) -> None:
    assert 0.0 <= f1_at_iou(a, b) <= 1.0


@given(answers())
def test_an_answer_agrees_with_itself(a: Answer) -> None:
    assert f1_at_iou(a, a) == 1.0
    assert agreement("ssd", a, a) == 1.0
    assert agreement("classifier", a, a) == 1.0


def test_classifiers_agree_on_their_best_class_alone() -> None:
    whole = (0.0, 0.0, 1.0, 1.0)
    mine = answer((whole, 0.6, 7), (whole, 0.3, 8))
    assert agreement("classifier", mine, answer((whole, 0.5, 7), (whole, 0.4, 1))) == 1.0
    assert agreement("classifier", mine, answer((whole, 0.5, 8), (whole, 0.4, 7))) == 0.0
    assert agreement("classifier", mine, Answer.empty()) == 0.0
