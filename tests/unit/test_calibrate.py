from __future__ import annotations

import math

import numpy as np
import pytest

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import Answer
from splitmesh.frames.track import MOTION_FLOOR
from splitmesh.plan.calibrate import (
    KAPPA_PRIOR,
    KAPPA_RANGE,
    TrackSample,
    fidelity_estimate,
    fit_track_kappa,
    tracking_samples,
)
from splitmesh.plan.thumbnail import luma_thumbnail


def test_empty_scenes_leave_the_order_of_levels_and_evidence_wins_slowly() -> None:
    nothing = [fidelity_estimate([1.0] * 24, [False] * 24, rank=r) for r in range(5)]
    assert nothing == sorted(nothing, reverse=True) and len(set(nothing)) == 5
    perfect = [fidelity_estimate([1.0] * 24, [True] * 24, rank=r) for r in range(5)]
    assert perfect == sorted(perfect, reverse=True) and perfect[4] > 0.985
    poor = fidelity_estimate([0.2] * 24, [True] * 24, rank=0)
    assert 0.2 < poor < 0.3
    assert fidelity_estimate([], [], rank=99) == fidelity_estimate([], [], rank=4)


@pytest.mark.parametrize("kappa", [10.0, 60.0, 300.0])
def test_kappa_is_found_again_despite_outliers(kappa: float) -> None:
    rng = np.random.default_rng(3)
    samples = []
    for _ in range(200):
        motion, age = rng.uniform(0.002, 0.05), rng.uniform(0.03, 1.0)
        truth = math.exp(-kappa * (motion + MOTION_FLOOR) * age)
        samples.append(TrackSample(motion, age, 0.0 if rng.random() < 0.1 else truth))
    assert fit_track_kappa(samples) == pytest.approx(kappa, rel=0.15)


def test_kappa_without_evidence_is_the_prior_and_always_in_range() -> None:
    assert fit_track_kappa([]) == KAPPA_PRIOR
    assert fit_track_kappa([TrackSample(0.5, 0.0, 0.2)] * 50) == KAPPA_PRIOR
    assert fit_track_kappa([TrackSample(0.02, 0.1, 0.0)] * 500) == pytest.approx(KAPPA_RANGE[1])
    assert fit_track_kappa([TrackSample(0.02, 0.1, 1.0)] * 500) == pytest.approx(KAPPA_RANGE[0])
    one_miss = fit_track_kappa([TrackSample(0.02, 0.1, 0.0)])
    assert KAPPA_PRIOR / 2 < one_miss < KAPPA_PRIOR * 2


def boxes(x: float) -> Answer:
    return Answer(
        np.array([[x, 0.2, x + 0.2, 0.4]], np.float32), np.array([0.9], np.float32), np.array([1], np.uint16)
    )


def test_tracking_samples_follow_a_box_and_notice_a_jump() -> None:
    rng = np.random.default_rng(0)
    lumas = [rng.integers(0, 255, (36, 64)).astype(np.uint8) for _ in range(24)]
    steady = tracking_samples([boxes(0.1 + 0.005 * i) for i in range(24)], lumas, interval_ns=33_000_000, kind="ssd")
    late = [s for s in steady if s.age_s < 0.2]
    assert late and np.mean([s.agreement for s in late]) > 0.95
    assert {round(s.age_s / 0.033) for s in steady} == {1, 2, 4, 8, 16}
    assert all(0.2 < s.motion < 0.5 for s in steady)
    jump = tracking_samples(
        [boxes(0.1 if i % 2 else 0.7) for i in range(24)], lumas, interval_ns=33_000_000, kind="ssd"
    )
    assert np.mean([s.agreement for s in jump if round(s.age_s / 0.033) == 1]) < 0.2


def test_frames_without_boxes_say_nothing() -> None:
    luma = [np.zeros((36, 64), np.uint8)] * 6
    assert tracking_samples([Answer.empty()] * 6, luma, interval_ns=10**8, kind="ssd") == []


def test_luma_thumbnail_is_the_mean_of_each_area() -> None:
    rgb = np.zeros((72, 130, 3), np.uint8)
    rgb[36:] = 200
    small = luma_thumbnail(rgb)
    assert small.shape == (36, 64) and small.dtype == np.uint8
    assert set(np.unique(small[:18])) == {0} and set(np.unique(small[18:])) == {200}
    tiny = luma_thumbnail(np.full((20, 30, 3), 9, np.uint8))
    assert tiny.shape == (20, 30) and set(np.unique(tiny)) == {9}
    with pytest.raises(FrameShapeError):
        luma_thumbnail(np.zeros((72, 130), np.uint8))
