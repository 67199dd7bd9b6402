"""Owns how good the answer is that a consumer holds, over time: late and missing answers let the one before age."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from splitmesh.sim.result import Settled


def held_fidelity(frames: Sequence[Settled], ageing: Sequence[float], *, period_s: float) -> float:
    """Mean over time of the held answer's agreement with the scene as it is at that very moment, [0, 1].

    At each moment from the first capture to one period after the last, a consumer holds the answer to the newest
    frame that has one by then, in time or not, and before the first it holds nothing: 0. An answer of fidelity f to
    frame s is worth `f·exp(−(a(t) − a(s)))` at t, so that an answer in time ages too until the next one comes. As
    streaming accuracy (Li, Wang, Ramanan, "Towards Streaming Perception", ECCV 2020), with the tracker's law of
    decay in place of a detector's output held still.

    frames: in the order of capture. ageing: per frame, κ times what the scene has travelled until it; ascends.
    """
    count = len(frames)
    captured_s = np.arange(count + 1) * period_s
    step = ageing[-1] - ageing[-2] if count > 1 else 0.0
    aged = np.append(np.asarray(ageing, dtype=float), ageing[-1] + step)
    answered = np.array([i for i, frame in enumerate(frames) if frame.outcome.answered], dtype=int)
    came_s = captured_s[answered] + np.array([frames[i].latency_ms for i in answered]) / 1e3
    order = np.argsort(came_s, kind="stable")
    came_s, newest = came_s[order], np.maximum.accumulate(answered[order])
    times_s = np.unique(np.concatenate((captured_s, came_s[came_s < captured_s[-1]])))
    from_s, to_s = times_s[:-1], times_s[1:]
    last = np.searchsorted(came_s, from_s, side="right") - 1
    held = last >= 0
    of = newest[last[held]]
    worth = np.array([frames[i].fidelity for i in of])
    age, later = (np.interp(at_s, captured_s, aged)[held] for at_s in (from_s, to_s))
    growth = np.maximum(later - age, 1e-12)
    mean_worth = worth * np.exp(aged[of] - age) * -np.expm1(-growth) / growth
    return float(np.sum(mean_worth * (to_s - from_s)[held]) / captured_s[-1])
