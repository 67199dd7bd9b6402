"""Owns the arithmetic of one decision in plain Python, for where the extension was not built.

`_native` does the same operations in the same order, so that both give the same bits.
"""

from __future__ import annotations

import math

import numpy as np

from splitmesh.policy.moment import Moment
from splitmesh.policy.numeric.values import F64, Chances, Costs, Course, Payload, Terms, Valued
from splitmesh.policy.point import OperatingPoint

LEAST_MS = 1e-3
"""Nothing is predicted to take less, and no less time is a budget."""


def within(predicted_ms: list[float], chances: Chances, /) -> list[float]:
    """P(T ≤ budget) of each of the predictions, in [0, 1]."""
    budget_ms, prior_weight, prior_steepness, steepness, faded, all_in, least, most, odds, weighted = chances
    if budget_ms < LEAST_MS:
        return [0.0] * len(predicted_ms)
    known = all_in + prior_weight
    weights: list[float] = []
    unsure: list[int] = []
    raised: list[float] = []
    for each in predicted_ms:
        ratio = (each if each > LEAST_MS else LEAST_MS) / budget_ms
        weight = prior_weight / (1 + ratio**prior_steepness)
        if ratio < least:
            weight += all_in
        elif ratio <= most:
            unsure.append(len(weights))
            raised.append(ratio**steepness)
        weights.append(weight)
    if unsure:
        # With x = -ln(ratio), 1 / (1 + exp(-k·(x - r))) is exp(-k·r) / (ratio**k + exp(-k·r)). One after the other,
        # as no other sum is the same on every machine.
        sums = np.add.accumulate(weighted[:, None] / np.add.outer(odds, raised))[-1].tolist()
        for index, inside in zip(unsure, sums, strict=True):
            # Rounding may leave a certainty one unit above itself.
            weights[index] = min(weights[index] + faded * inside, known)
    return [weight / known for weight in weights]


def payloads(
    points: list[OperatingPoint],
    sizes: list[float],
    fidelities: list[float] | None,
    now: Moment,
    terms: Terms,
    /,
) -> list[Payload]:
    """One of each point. sizes: of messages. fidelities: None: those of the points."""
    queue_ms, stalled_ms, base_ms, ms_per_byte, doubt_ms_per_byte, wait_ms, gamma_edge, encode_scales, *rest = now
    split, queued, byte_price, byte_periods, free_periods, own_price, tracked, fallback, trusted, freshness = terms
    gamma_cloud, gamma_resume = rest if split else (rest[0], 0.0)
    gamma_edge = gamma_edge if split else 0.0
    fixed_ms = base_ms + wait_ms
    # What is stuck doesn't drain while the device still computes.
    if queued and stalled_ms > 0:
        queue_ms, fixed_ms = 0.0, fixed_ms + queue_ms
    elif not queued:
        queue_ms = 0.0
    others, made = encode_scales[""], []
    for point, size, value in zip(points, sizes, fidelities or [p.fidelity for p in points], strict=True):
        price, beyond = byte_price * size, byte_periods * size - free_periods
        if beyond > 0:
            price += own_price * beyond * beyond
        fresh = (value if value < trusted else 1.0) - tracked
        kept = value + freshness * fresh if fresh > 0 else value
        head_ms = gamma_edge * point.edge_ms
        made.append(
            (
                head_ms + gamma_resume * point.resume_ms,
                head_ms + encode_scales.get(point.codec, others) * point.encode_ms,
                queue_ms,
                size * ms_per_byte + fixed_ms + gamma_cloud * (point.decode_ms + point.cloud_ms),
                doubt_ms_per_byte * size,
                fallback - price,
                kept - fallback,
            )
        )
    return made


def answers(
    asked: list[tuple[OperatingPoint, Payload]], backlogs_ms: list[float], chances: Chances, /
) -> list[Valued]:
    """Each payload alone, behind a backlog of its own."""
    predicted_ms, late_ms = [], []
    for (_, payload), backlog_ms in zip(asked, backlogs_ms, strict=True):
        _, lead_ms, queue_ms, rest_ms, doubt_ms, _, _ = payload
        ready_ms = backlog_ms + lead_ms
        # What is under way goes on draining while the device still computes.
        ms = (ready_ms if ready_ms > queue_ms else queue_ms) + rest_ms
        predicted_ms.append(ms)
        late_ms.append(ms + doubt_ms)
    return [
        (point, ms, p, payload[5] + p * payload[6])
        for (point, payload), ms, p in zip(asked, predicted_ms, within(late_ms, chances), strict=True)
    ]


def course(backlog: float, course: Course, /) -> float:
    """What frames behind get in all, if so many steps are queued when the first of them comes."""
    period, device, without, values, idle, weights = course
    last, with_cut, total = len(values) - 1, device - period, 0.0
    for weight, rest in zip(weights, idle, strict=True):
        if backlog <= 0:
            return total + rest
        # Linear between the steps.
        cut = values[last]
        if backlog < last:
            low = int(backlog)
            cut = values[low] + (backlog - low) * (values[low + 1] - values[low])
        if cut > without:
            total += weight * cut
            backlog += with_cut
        else:
            total += weight * without
            backlog -= period
    return total


def charged(valued: list[Valued], device_ms: list[float], costs: Costs, behind: Course | None, /) -> list[Valued]:
    """Each less the price of what it takes of the device. behind: None: nothing is lost there."""
    run_ms, own_price, queue_price, ms_price, backlog_ms, period_ms, step_ms = costs
    left_ms, made = backlog_ms - period_ms, []
    untaken = 0.0 if behind is None else course(left_ms / step_ms, behind)
    for (point, ms, p, utility), taken_ms in zip(valued, device_ms, strict=True):
        runs = taken_ms / run_ms
        price = own_price * runs * runs + ms_price * taken_ms + queue_price * runs
        # If it is free again when the first of the frames behind comes, they lose nothing.
        if behind is not None and backlog_ms + taken_ms > period_ms:
            price += untaken - course((left_ms + taken_ms) / step_ms, behind)
        made.append((point, ms, p, utility - price))
    return made


def around(x: float, y: float, audits: F64, /) -> tuple[float, float]:
    """(Σ weight·F1, Σ weight) of `audits`, (n, 4): the logarithm of the weight that each has at its own (u, v), u, v,
    F1. The kernel is a normal distribution's, of width one."""
    seen = known = 0.0
    for log_weight, u, v, f1 in audits.tolist():
        across, along = x - u, y - v
        weight = math.exp(log_weight - 0.5 * (across * across + along * along))
        seen += weight * f1
        known += weight
    return seen, known
