"""Owns the values that the arithmetic of a decision takes and gives; plain tuples, as a frame has dozens of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from splitmesh.policy.point import OperatingPoint

F64 = npt.NDArray[np.float64]
Payload = tuple[float, float, float, float, float, float, float]
"""(head's and tail's time on the device, ms, 0 for pictures; ms until the payload is ready, without a backlog; ms
until the link is free; ms from its turn there to the result; ms that doubt of the rate adds; utility if the answer is
late; what is gained if it is not)."""
Valued = tuple[OperatingPoint, float, float, float]
"""(point, predicted_ms, p_hit, utility)."""


class Chances(NamedTuple):
    """`P(T ≤ budget)` of any prediction at one moment; see `policy.estimators.LatenessEstimator`."""

    budget_ms: float
    prior_weight: float
    prior_steepness: float
    """Of the logistic function of `ln(T / T̂)` that is the prior."""
    steepness: float
    """The same of the kernel around each residual."""
    faded: float
    """What the time since the newest residual has left of all weights, (0, 1]."""
    all_in: float
    """What is left of all weights in all."""
    least: float
    """T̂ / budget below which all residuals agree that it is in time."""
    most: float
    """T̂ / budget above which all of them agree that it is late."""
    odds: F64
    """`exp(−k·r)` of each residual r, k the steepness."""
    weighted_odds: F64


class Terms(NamedTuple):
    """What holds for all payloads of one place in one frame, beside the moment."""

    split: bool
    """They are made by the device: a head before each, a tail after those that are late."""
    queued: bool
    """Behind what is on the link now; else as if that were free."""
    byte_price: float
    """Utility that a byte costs beside the payload's own time on the link."""
    byte_periods: float
    """Time of a byte on the link in frame periods."""
    free_periods: float
    """That a payload may take of the link without a price; beyond that it costs `own_price` times the square."""
    own_price: float
    tracked: float
    """Fidelity of the tracker's answer."""
    fallback: float
    """Of what stands in for an answer that is late."""
    trusted: float
    """Fidelity from which an answer counts as the model's own to the frames that are tracked from it."""
    freshness: float
    """Worth to these of what it is better by."""


class Course(NamedTuple):
    """What frames behind have to choose from; see `policy.frames_behind`. Times are in steps of its backlog."""

    period: float
    device: float
    """What a cut takes."""
    without: float
    """Utility of what takes none."""
    values: tuple[float, ...]
    """Utility of a cut behind each whole number of steps; beyond the last as there. At most 64."""
    idle: tuple[float, ...]
    """What each frame and those after it get in all, if nothing is queued when it comes. At most 64."""
    weights: tuple[float, ...]
    """Of each frame."""


class Costs(NamedTuple):
    """Of the device's time, in one frame."""

    run_ms: float
    """What is taken is counted in these."""
    own_price: float
    """Of the square of what is taken."""
    queue_price: float
    ms_price: float
    """Of the energy of a millisecond."""
    backlog_ms: float
    period_ms: float
    step_ms: float
