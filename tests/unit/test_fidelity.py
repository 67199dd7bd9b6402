"""Agreement of answers: known counts and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.errors import InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import agreement, counts_objects, f1_at_iou, measure_of, tells
from splitmesh.plan.manifest_kinds import KINDS


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


def mask(*rows: list[int]) -> Answer:
    return Answer.of_tensors({"mask": np.array(rows, np.uint8)})


def raw(**tensors: np.ndarray | list) -> Answer:
    return Answer.of_tensors({name: np.asarray(value) for name, value in tensors.items()})


F = np.float32


@pytest.mark.parametrize(
    ("mine", "reference", "expected"),
    [
        (mask([0, 1], [2, 2]), mask([0, 1], [2, 2]), 1.0),
        (mask([0, 0], [1, 1]), mask([0, 1], [1, 1]), (1 / 2 + 2 / 3) / 2),
        (mask([0, 0], [0, 0]), mask([1, 1], [1, 1]), 0.0),
        (mask([0, 0], [0, 5]), mask([0, 0], [0, 0]), (3 / 4 + 0) / 2),  # class 5 is only in the answer
        (mask([0, 0, 0]), mask([0, 0]), 0.0),
        (Answer.empty(), mask([0, 0]), 0.0),
        (mask([0, 0]), Answer.empty(), 0.0),
        (Answer.empty(), Answer.empty(), 1.0),
        (raw(mask=F([[0, 1]])), mask([0, 1]), 0.0),  # no class map
    ],
)
def test_masks_agree_by_their_mean_iou(mine: Answer, reference: Answer, expected: float) -> None:
    assert agreement("segmentation", mine, reference) == pytest.approx(expected)


def test_a_mask_of_65536_classes() -> None:
    wide = Answer.of_tensors({"mask": np.array([[65535, 300]], np.uint16)})
    assert agreement("segmentation", wide, wide) == 1.0
    assert agreement("segmentation", wide, mask([7, 7])) == 0.0


@pytest.mark.parametrize(
    ("mine", "reference", "expected"),
    [
        (raw(a=F([1, 0])), raw(a=F([0, 1])), 0.0),
        (raw(a=F([1, 1])), raw(a=F([1, 0])), 0.5**0.5),
        (raw(a=F([[2, 2]])), raw(a=F([[1, 1]])), 1.0),  # the angle alone
        (raw(a=F([-1, 0])), raw(a=F([1, 0])), 0.0),  # never below 0
        (raw(a=F([0, 0])), raw(a=F([0, 0])), 1.0),
        (raw(a=F([0, 0])), raw(a=F([0, 1])), 0.0),
        (raw(a=np.zeros((0, 6), F)), raw(a=np.zeros((0, 6), F)), 1.0),
        (raw(a=np.zeros((0, 6), F)), raw(a=np.zeros((1, 6), F)), 0.0),
        (raw(a=F([1, 2])), raw(a=F([[1, 2]])), 0.0),
        (raw(a=[1, 2, 3, 4]), raw(a=[1, 2, 3, 5]), 0.75),
        (raw(a=F([1, 0]), b=[1, 1]), raw(a=F([1, 0]), b=[1, 2]), 0.75),
        (raw(a=F([1])), raw(a=F([1]), b=F([1])), 0.5),
        (raw(a=F([1]), b=F([1])), raw(a=F([1])), 0.5),
        (raw(), raw(), 1.0),
        (raw(a=F([3e38] * 4)), raw(a=F([3e38] * 3 + [0])), 0.75**0.5),  # no overflow
        (raw(a=F([1e-38, 0])), raw(a=F([1e-38, 1e-38])), 0.5**0.5),  # no underflow
    ],
)
def test_raw_outputs_agree_by_angle_or_by_equal_elements(mine: Answer, reference: Answer, expected: float) -> None:
    assert agreement("tensor", mine, reference) == pytest.approx(expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused_by_name(bad: float) -> None:
    with pytest.raises(InferenceError, match="logits"):
        agreement("tensor", raw(logits=F([1, bad])), raw(logits=F([1, 0])))
    with pytest.raises(InferenceError, match="logits"):
        agreement("tensor", raw(logits=F([1, bad])), raw(logits=F([1, bad])))


def test_an_identical_raw_output_agrees_exactly() -> None:
    noise = np.random.default_rng(0).normal(size=(1, 37, 11)).astype(F)
    assert agreement("tensor", raw(a=noise), raw(a=noise.copy())) == 1.0


WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("kind", "mine", "reference", "told"),
    [
        ("yolo", Answer.empty(), Answer.empty(), False),
        ("yolo", answer((A, 0.2, 1)), answer((A, 0.2, 1)), False),  # below the score that counts
        ("yolo", answer((A, 0.9, 1)), Answer.empty(), True),
        ("yolo", Answer.empty(), answer((A, 0.9, 1)), True),
        ("classifier", answer((WHOLE, 0.1, 1)), answer((WHOLE, 0.1, 1)), True),
        ("classifier", Answer.empty(), Answer.empty(), False),
        ("segmentation", mask([0, 0]), mask([0, 0]), False),
        ("segmentation", mask([3, 3]), mask([0, 0]), True),
        ("segmentation", mask([0, 1]), mask([0, 1]), True),
        ("segmentation", Answer.empty(), mask([0, 0]), True),
        ("segmentation", Answer.empty(), Answer.empty(), False),
        ("tensor", raw(a=F([0, 0])), raw(a=F([0, 0])), False),
        ("tensor", raw(a=F([0, 0])), raw(a=F([0, 1])), True),
        ("tensor", raw(a=[0]), raw(), False),
    ],
)
def test_what_a_comparison_proves(kind: str, mine: Answer, reference: Answer, told: bool) -> None:
    assert tells(kind, mine, reference) is told
    if not told and len(mine.tensors) == len(reference.tensors):
        assert agreement(kind, mine, reference) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_measure(kind: str) -> None:
    assert measure_of(kind) and counts_objects(kind) is (measure_of(kind) == "F1@IoU0.5")
    assert agreement(kind, Answer.empty(), Answer.empty()) == 1.0
    assert not tells(kind, Answer.empty(), Answer.empty())
