"""What a plan says of answers: average precision held against COCO's own code, the rest against known values."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from splitmesh.errors import InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.plan.answers.average_precision import average_precision, mean_average_precision
from splitmesh.plan.answers.metrics import MOVING, content_bins, distribution, kl_divergence, metrics
from splitmesh.plan.bundle.schema import FidelityBin

Row = tuple[tuple[float, float, float, float], float, int]


def answer(*rows: Row) -> Answer:
    return Answer(
        np.array([r[0] for r in rows], np.float32).reshape(-1, 4),
        np.array([r[1] for r in rows], np.float32),
        np.array([r[2] for r in rows], np.uint16),
    )


def coco_map50(answers: Sequence[Answer], references: Sequence[Answer], min_score: float) -> float:
    """pycocotools' AP at IoU 0.5, area "all", 100 detections; -1 without any object."""

    def annotations(source: Sequence[Answer], least: float) -> list[dict]:
        found = []
        for image, one in enumerate(source):
            for box, score, label in zip(one.boxes.tolist(), one.scores.tolist(), one.classes.tolist(), strict=True):
                if score >= least:
                    x0, y0, x1, y1 = box
                    size = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": max(x1 - x0, 0) * max(y1 - y0, 0)}
                    found.append(
                        {"image_id": image + 1, "category_id": label + 1, "iscrowd": 0, "score": score} | size
                    )
        return [row | {"id": number} for number, row in enumerate(found, 1)]

    truth, shown = annotations(references, min_score), annotations(answers, -1)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image + 1} for image in range(len(answers))],
            "categories": [{"id": label} for label in sorted({row["category_id"] for row in truth + shown})],
            "annotations": truth,
        }
        coco.createIndex()
        found = COCO()
        found.dataset = {**coco.dataset, "annotations": shown}
        found.createIndex()
        judge = COCOeval(coco, found, "bbox")
        judge.params.iouThrs = np.array([0.5])
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.params.maxDets = [100]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]
    return float(precision[precision > -1].mean()) if (precision > -1).any() else -1.0


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Answer], list[Answer]]:
    """Frames whose answers are the references' boxes moved, rescored, dropped, doubled or of another class."""
    step, label = st.integers(0, 12), st.integers(0, 2)
    score = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.5, 0.7, 0.9])
    box = st.tuples(step, step, st.integers(0, 6), st.integers(1, 6), score, label)
    wanted, given_ = [], []
    for _ in range(draw(st.integers(1, 4))):
        truth = draw(st.lists(box, max_size=6))
        mine = list(draw(st.lists(box, max_size=3)))
        for x, y, w, h, _, c in truth:
            for _ in range(draw(st.integers(0, 2))):
                dx, dy = draw(st.tuples(st.integers(-1, 1), st.integers(-1, 1)))
                mine.append((x + dx, y + dy, w, h, draw(score), c))
        wanted.append(truth)
        given_.append(draw(st.permutations(mine)))

    def build(rows: list) -> Answer:
        return answer(*((((x + 1) / 32, (y + 1) / 32, (x + w + 1) / 32, (y + h + 1) / 32), p, c)
                        for x, y, w, h, p, c in rows))  # fmt: skip

    return [build(rows) for rows in given_], [build(rows) for rows in wanted]


@settings(max_examples=150)
@given(scenes(), st.sampled_from([0.1, 0.3, 0.6]))
def test_map50_is_what_coco_computes(scene: tuple[list[Answer], list[Answer]], min_score: float) -> None:
    answers, references = scene
    ours = mean_average_precision(answers, references, min_score=min_score)
    theirs = coco_map50(answers, references, min_score)
    if ours is None:
        assert theirs == -1
        assert "map50" not in metrics("ssd", answers, references, min_score=min_score)
    else:
        assert ours == pytest.approx(theirs, abs=1e-9)
        assert metrics("ssd", answers, references, min_score=min_score)["map50"] == ours


def test_map50_is_what_coco_computes_on_many_boxes() -> None:
    """More than 100 boxes of a class in a frame, overlaps of all sizes, scores of all values."""
    rng = np.random.default_rng(3)
    answers, references = [], []
    for _ in range(6):
        truth = rng.uniform(0, 0.9, (90, 4)).astype(np.float32)
        truth[:, 2:] = truth[:, :2] + rng.uniform(0.02, 0.1, (90, 2))
        labels = rng.integers(0, 2, 90).astype(np.uint16)
        moved = np.concatenate([truth, truth, truth]) + rng.normal(0, 0.01, (270, 4)).astype(np.float32)
        references.append(Answer(truth, rng.uniform(0, 1, 90).astype(np.float32), labels))
        answers.append(Answer(moved, rng.uniform(0, 1, 270).astype(np.float32), np.tile(labels, 3)))
    ours = mean_average_precision(answers, references, min_score=0.3)
    assert ours == pytest.approx(coco_map50(answers, references, 0.3), abs=1e-9)
    assert ours is not None and 0.05 < ours < 0.95


def test_of_two_equal_overlaps_coco_takes_the_last() -> None:
    def box(x: int) -> tuple[float, float, float, float]:
        return (x / 16, 0.0, (x + 8) / 16, 0.5)

    truth = answer((box(0), 0.9, 1), (box(4), 0.9, 1))
    between = answer((box(2), 0.9, 1), (box(5), 0.8, 1))
    ours = mean_average_precision([between], [truth])
    assert ours == pytest.approx(coco_map50([between], [truth], 0.3), abs=1e-9)
    assert ours == pytest.approx(51 / 101)


A, B, FAR = (0.0, 0.0, 0.2, 0.2), (0.5, 0.5, 0.9, 0.9), (0.3, 0.0, 0.4, 0.1)


def test_average_precision_by_hand() -> None:
    """Right, wrong, right of two: precision 1 up to recall 1/2, then 2/3: (51 + 50 * 2/3) / 101."""
    mine = answer((A, 0.9, 1), (FAR, 0.8, 1), (B, 0.7, 1))
    truth = answer((A, 0.9, 1), (B, 0.9, 1))
    found = average_precision([mine], [truth], 1, iou=0.5, max_boxes=100)
    assert found == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert average_precision([mine], [truth], 1, iou=0.5, max_boxes=1) == pytest.approx(51 / 101)
    assert average_precision([mine], [truth], 2, iou=0.5, max_boxes=100) is None
    assert average_precision([Answer.empty()], [truth], 1, iou=0.5, max_boxes=100) == 0.0


def test_detectors_are_measured_over_all_frames_at_once() -> None:
    answers = [answer((A, 0.9, 1), (B, 0.8, 1)), Answer.empty(), answer((B, 0.9, 2))]
    references = [answer((A, 0.9, 1)), Answer.empty(), answer((B, 0.9, 2), (A, 0.2, 2))]
    assert metrics("yolox", answers, references) == {"map50": 1.0, "f1": pytest.approx(2 * 2 / (3 + 2))}
    assert metrics("yolox", [Answer.empty()], [Answer.empty()]) == {}
    assert metrics("yolox", [answer((A, 0.9, 1))], [Answer.empty()]) == {"f1": 0.0}
    assert metrics("yolox", [], []) == {}
    with pytest.raises(ValueError):
        metrics("yolox", answers, references[:2])


def ranked(*classes: int) -> Answer:
    return answer(*(((0.0, 0.0, 1.0, 1.0), 0.9 - 0.1 * place, name) for place, name in enumerate(classes)))


def test_classifiers() -> None:
    answers = [ranked(1, 2, 3, 4, 5), ranked(2, 1, 3, 4, 5), ranked(6, 7, 8, 9, 10, 1)]
    references = [ranked(1), ranked(1), ranked(1)]
    assert metrics("classifier", answers, references) == {"top1": pytest.approx(1 / 3), "top5": pytest.approx(2 / 3)}
    half, sure = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    found = metrics("classifier", answers, references, distributions=[(half, sure), (half, half), (half, half)])
    assert found["kl"] == pytest.approx(np.log(2) / 3)


def test_kl_divergence_is_finite_and_directed() -> None:
    half, sure = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert kl_divergence(half, half) == 0.0
    assert kl_divergence(half, sure) == pytest.approx(np.log(2))
    assert 10 < kl_divergence(sure, half) < 20
    shares = distribution(np.array([[1.0, 3.0]], np.float32), "none")
    np.testing.assert_allclose(shares, [0.25, 0.75])
    np.testing.assert_allclose(distribution(np.float32([1000, 1000, -1000]), "softmax"), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(distribution(np.float32([-1, 0]), "none"), [0.5, 0.5])


def masks(*rows: list[int]) -> list[Answer]:
    return [Answer.of_tensors({"mask": np.array([row], np.uint8)}) for row in rows]


def test_masks_are_summed_over_frames_before_they_are_divided() -> None:
    found = metrics("segmentation", masks([0, 0, 1], [1, 1, 1]), masks([0, 1, 1], [1, 1, 1]))
    assert found == {"miou": pytest.approx((1 / 2 + 4 / 5) / 2)}
    # A missing mask costs the classes that it should have had.
    assert metrics("segmentation", [Answer.empty(), *masks([0])], masks([0, 0, 0], [0])) == {"miou": 1 / 4}
    assert metrics("segmentation", [Answer.empty()], [Answer.empty()]) == {}


def test_raw_outputs() -> None:
    def raw(**tensors: list) -> Answer:
        return Answer.of_tensors({name: np.asarray(value) for name, value in tensors.items()})

    answers = [raw(a=[1.0, 0.0], ids=[1, 2]), raw(a=[1.0, 1.0], ids=[1, 3])]
    references = [raw(a=[1.0, 0.0], ids=[1, 2]), raw(a=[1.0, 0.0], ids=[1, 2])]
    found = metrics("tensor", answers, references)
    assert found == {"cosine": pytest.approx((1 + 0.5**0.5) / 2), "equal": 0.75}
    assert metrics("tensor", [raw()], [raw(a=[1.0])]) == {"cosine": 0.0}
    with pytest.raises(InferenceError, match="tensor a "):
        metrics("tensor", [raw(a=[float("nan")])], [raw(a=[1.0])])


def test_bins_by_objects_and_motion() -> None:
    crowd = answer(*[(A, 0.9, 1)] * 4)
    references = [Answer.empty(), answer((A, 0.9, 1), (B, 0.1, 1)), crowd, crowd, crowd]
    motions = [0.0, MOVING, MOVING / 2, MOVING / 2, None]
    found = content_bins("yolo", [1.0, 0.5, 0.25, 0.75, 0.0], references, motions)
    assert found == (
        FidelityBin(objects="0", motion="still", frames=1, fidelity=1.0),
        FidelityBin(objects="1-3", motion="moving", frames=1, fidelity=0.5),
        FidelityBin(objects="4+", motion="any", frames=1, fidelity=0.0),
        FidelityBin(objects="4+", motion="still", frames=2, fidelity=0.5),
    )
    plain = content_bins("segmentation", [1.0, 0.5], masks([0], [1]), [None, None])
    assert plain == (FidelityBin(objects="any", motion="any", frames=2, fidelity=0.75),)
    with pytest.raises(ValueError):
        content_bins("yolo", [1.0], references, motions)
