"""Owns what follows from answers on calibration frames: expected fidelity of a codec's level, and tracking decay.

Runs nothing itself; `splitmesh.inference.planning` runs the model and the tracker's clock is the frames' own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import agreement, tells
from splitmesh.frames.track import MOTION_FLOOR, Tracker, motion

KAPPA_PRIOR = 40.0
"""κ that is believed before any evidence; a static street camera at 10 fps measured 53."""
KAPPA_RANGE = (5.0, 1000.0)
_PRIOR_WEIGHT = 8.0
_FIDELITY_PRIOR = (0.995, 0.985, 0.97, 0.945, 0.9)
"""What a codec's levels, finest first, are taken to keep before any evidence: an assumption, weak on purpose."""
_PRIOR_FRAMES = 3.0


@dataclass(frozen=True, slots=True)
class TrackSample:
    """One tracked answer held against the model's own."""

    motion: float
    """Mean of `frames.track.motion` between neighbouring frames over the age, [0, 1]."""
    age_s: float
    agreement: float


def fidelity_estimate(agreements: Sequence[float], told: Sequence[bool], *, rank: int) -> float:
    """Expected fidelity of a codec's level, [0, 1], `rank` places below its finest.

    agreements: one per frame. told: False where both answers are empty, which proves nothing. The mean over the
    frames that tell something is shrunk towards what such a level keeps in general, worth three frames: a scene in
    which nothing happens must not make the coarsest level look perfect.
    """
    useful = [a for a, tells in zip(agreements, told, strict=True) if tells]
    prior = _FIDELITY_PRIOR[min(rank, len(_FIDELITY_PRIOR) - 1)]
    return (sum(useful) + _PRIOR_FRAMES * prior) / (len(useful) + _PRIOR_FRAMES)


def tracking_samples(
    answers: Sequence[Answer],
    lumas: Sequence[npt.NDArray[np.uint8]],
    *,
    interval_ns: int,
    kind: str,
    ages: Sequence[int] = (1, 2, 4, 8, 16),
) -> list[TrackSample]:
    """Replay the tracker over consecutive frames: it sees answers up to frame i and is asked for frame i + age.

    `answers` are the full model's, `lumas` (H, W) uint8 thumbnails, one each per frame, `interval_ns` apart. Frames
    on which the model itself finds nothing at either end say nothing about tracking and are left out.
    """
    moved = [motion(a, b) for a, b in itertools.pairwise(lumas)]
    tracker = Tracker()
    samples: list[TrackSample] = []
    for index, answer in enumerate(answers):
        tracker.observe(answer, index * interval_ns)
        for age in ages:
            then = index + age
            if then >= len(answers) or not tells(kind, answer, answers[then]):
                continue
            predicted = tracker.predict(then * interval_ns)
            samples.append(
                TrackSample(
                    motion=float(np.mean(moved[index:then])),
                    age_s=age * interval_ns / 1e9,
                    agreement=agreement(kind, predicted, answers[then]),
                )
            )
    return samples


def fit_track_kappa(samples: Sequence[TrackSample]) -> float:
    """κ of A_track = exp(−κ · (motion + MOTION_FLOOR) · age_s), in 1/(motion · s), clamped to `KAPPA_RANGE`.

    `motion` is the mean |Δluma|/255 between neighbouring frames. Least absolute deviations over a grid (an object
    that one frame misses must not decide), with a weak prior that a few samples can't outvote by accident.
    """
    doses = np.array([(s.motion + MOTION_FLOOR) * s.age_s for s in samples])
    wanted = np.array([s.agreement for s in samples])
    told = doses > 1e-7
    if not told.any():
        return KAPPA_PRIOR
    doses, wanted = doses[told], wanted[told]
    grid = np.geomspace(*KAPPA_RANGE, 241)
    misfit = np.abs(np.exp(-grid[:, None] * doses) - wanted).sum(axis=1)
    typical = float(np.median(doses))
    misfit += _PRIOR_WEIGHT * np.abs(np.exp(-grid * typical) - math.exp(-KAPPA_PRIOR * typical))
    return float(grid[int(np.argmin(misfit))])
