"""Classes of a smaller model, told in those of the larger one."""

from __future__ import annotations

import numpy as np
import pytest

from splitmesh.errors import ModelError
from splitmesh.frames.answer import Answer
from splitmesh.plan.answers.relabel import relabelled


def answer(classes: list[int], marks: int = 0) -> Answer:
    n = len(classes)
    boxes = np.tile(np.array([0.1, 0.1, 0.5, 0.5], np.float32), (n, 1))
    scores = np.linspace(0.9, 0.5, n, dtype=np.float32)
    points = np.arange(n * marks * 2, dtype=np.float32).reshape(n if marks else 0, marks, 2) / 100
    return Answer(boxes, scores, np.array(classes, np.uint16), points)


@pytest.mark.parametrize("marks", [0, 5])
def test_names_decide_and_unknown_classes_go(marks: int) -> None:
    given = answer([0, 1, 2, 9], marks)
    read = relabelled(lambda _: given, ["Person ", "zebra", "car"], ["background", "car", "person", "person"])
    found = read({})
    assert found.classes.tolist() == [2, 1]
    np.testing.assert_array_equal(found.scores, given.scores[[0, 2]])
    assert found.points.shape == ((2, marks, 2))
    if marks:
        np.testing.assert_array_equal(found.points, given.points[[0, 2]])


def test_an_empty_answer_stays_empty() -> None:
    assert len(relabelled(lambda _: Answer.empty(), ["a"], ["a"])({})) == 0


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\(face\) and the model's \(person, car, dog, …\) have none in common"):
        relabelled(lambda _: Answer.empty(), ["face"], ["person", "car", "dog", "cat"])
