"""The two kernels of a decision's arithmetic: the same numbers from both, to the bit, and no size taken on trust."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.policy.estimators import LatenessEstimator
from splitmesh.policy.moment import Moment
from splitmesh.policy.numeric import pure
from splitmesh.policy.numeric.kernel import COMPILED, KERNEL
from splitmesh.policy.numeric.values import Chances, Costs, Course, Payload, Terms, Valued
from splitmesh.policy.point import OperatingPoint, Place

NOW_NS = 10**12
MS = st.floats(0.0, 1e5)
SCALE = st.floats(0.01, 100.0)
UNIT = st.floats(0.0, 1.0)
POINT = OperatingPoint("split/c/x-1", Place.SPLIT, 0.9, "c", "x", 1, 5.0, 1.0, 900.0, 1.0, 4.0, 6.0)
POINTS = st.builds(
    replace,
    st.just(POINT),
    fidelity=UNIT,
    codec=st.sampled_from(("x", "y", "z")),
    edge_ms=MS,
    encode_ms=MS,
    decode_ms=MS,
    cloud_ms=MS,
    resume_ms=MS,
)
PAYLOADS = st.tuples(*[MS] * 5, st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
VALUED = st.tuples(st.just(POINT), MS, UNIT, st.floats(-2.0, 2.0))
MOMENTS = st.builds(
    Moment,
    link_backlog_ms=MS,
    stalled_ms=st.sampled_from((0.0, 45.0)),
    base_ms=MS,
    ms_per_byte=st.floats(1e-9, 1.0),
    doubt_ms_per_byte=st.floats(0.0, 1.0),
    cloud_wait_ms=MS,
    gamma_edge=SCALE,
    gamma_encode=st.fixed_dictionaries({"": SCALE, "x": SCALE}, optional={"y": SCALE}),
    gamma_cloud=SCALE,
    gamma_resume=SCALE,
)
TERMS = st.builds(
    Terms,
    st.booleans(),
    st.booleans(),
    st.floats(0.0, 1e-3),
    st.floats(0.0, 0.1),
    *[UNIT] * 5,
    st.floats(0.0, 0.2),
)
COURSES = st.integers(1, 8).flatmap(
    lambda frames: st.builds(
        Course,
        period=st.floats(0.1, 10.0),
        device=st.floats(0.0, 30.0),
        without=UNIT,
        values=st.lists(UNIT, min_size=1, max_size=9).map(tuple),
        idle=st.tuples(*[st.floats(0.0, 8.0)] * frames),
        weights=st.tuples(*[UNIT] * frames),
    )
)
COSTS = st.builds(Costs, st.floats(1.0, 1e3), UNIT, UNIT, UNIT, MS, st.floats(1.0, 1e3), st.floats(0.5, 500.0))
both = pytest.mark.skipif(COMPILED is None, reason="one kernel only")


@st.composite
def chances(draw: st.DrawFn) -> Chances:
    """As an estimator has them that was taught."""
    lateness = LatenessEstimator()
    for ratio in draw(st.lists(st.floats(0.2, 5.0), max_size=70)):
        lateness.observe(100.0 * ratio, 100.0, NOW_NS)
    return lateness.chances(draw(st.floats(-10.0, 400.0)), NOW_NS + draw(st.integers(0, 10**10)))


@both
@given(st.lists(MS, max_size=20), chances())
def test_chances_are_the_same(predicted_ms: list[float], given_now: Chances) -> None:
    assert COMPILED is not None
    made = COMPILED.within(predicted_ms, given_now)
    assert made == pure.within(predicted_ms, given_now)
    assert all(0 <= each <= 1 for each in made)


@both
@given(st.data(), st.lists(POINTS, max_size=16), MOMENTS, TERMS, st.booleans())
def test_payloads_are_the_same(
    data: st.DataObject, points: list[OperatingPoint], now: Moment, terms: Terms, own: bool
) -> None:
    assert COMPILED is not None
    sizes = data.draw(st.lists(st.floats(1.0, 1e7), min_size=len(points), max_size=len(points)))
    fidelities = None if own else [each.fidelity / 2 for each in points]
    made = COMPILED.payloads(points, sizes, fidelities, now, terms)
    assert made == pure.payloads(points, sizes, fidelities, now, terms)


@both
@given(st.lists(st.tuples(st.tuples(st.just(POINT), PAYLOADS), MS), max_size=16), chances())
def test_answers_are_the_same(asked: list[tuple[tuple[OperatingPoint, Payload], float]], given_now: Chances) -> None:
    assert COMPILED is not None
    pairs, backlogs_ms = [pair for pair, _ in asked], [backlog_ms for _, backlog_ms in asked]
    assert COMPILED.answers(pairs, backlogs_ms, given_now) == pure.answers(pairs, backlogs_ms, given_now)


@both
@given(st.floats(-10.0, 100.0), COURSES)
def test_courses_are_the_same(backlog: float, course: Course) -> None:
    assert COMPILED is not None
    assert COMPILED.course(backlog, course) == pure.course(backlog, course)


@both
@given(st.lists(st.tuples(VALUED, MS), max_size=16), COSTS, st.none() | COURSES)
def test_prices_are_the_same(asked: list[tuple[Valued, float]], costs: Costs, course: Course | None) -> None:
    assert COMPILED is not None
    valued, device_ms = [each for each, _ in asked], [taken_ms for _, taken_ms in asked]
    made = COMPILED.charged(valued, device_ms, costs, course)
    assert made == pure.charged(valued, device_ms, costs, course)


@both
@given(
    st.floats(-20.0, 0.0),
    st.floats(0.0, 60.0),
    st.lists(st.tuples(st.floats(-1.0, 0.0), st.floats(-20.0, 0.0), st.floats(0.0, 60.0), UNIT), max_size=64),
)
def test_sums_over_audits_are_the_same(x: float, y: float, audits: list[tuple[float, ...]]) -> None:
    assert COMPILED is not None
    table = np.array(audits, dtype=np.float64).reshape(-1, 4)
    assert COMPILED.around(x, y, table) == pure.around(x, y, table)


def _of_two() -> Chances:
    lateness = LatenessEstimator()
    for _ in range(2):
        lateness.observe(110.0, 100.0, NOW_NS)
    return lateness.chances(100.0, NOW_NS)


FITS = _of_two()
NOW = Moment(0.0, 0.0, 1.0, 1e-3, 0.0, 0.0, 1.0, {"": 1.0}, 1.0, 1.0)
FITTING = Terms(True, True, 0.0, 0.0, 0.5, 0.03, 0.5, 0.9, 0.9, 0.1)
LEVEL = Course(2.0, 1.0, 0.5, (1.0, 0.5), (2.0, 1.0), (0.9, 0.8))
COST = Costs(40.0, 0.03, 0.0, 0.0, 0.0, 40.0, 20.0)
ONE: Payload = (0.0, 1.0, 0.0, 1.0, 0.0, 0.5, 0.4)


@both
@pytest.mark.parametrize(
    "wrong",
    [
        lambda kernel: kernel.within((1.0,), FITS),
        lambda kernel: kernel.within(["soon"], FITS),
        lambda kernel: kernel.within([1.0], FITS[:-1]),
        lambda kernel: kernel.within([1.0], FITS._replace(odds=np.ones(3))),
        lambda kernel: kernel.within([1.0], FITS._replace(odds=b"123", weighted_odds=b"123")),
        lambda kernel: kernel.payloads([POINT], [], None, NOW, FITTING),
        lambda kernel: kernel.payloads([POINT], [1.0], [], NOW, FITTING),
        lambda kernel: kernel.payloads([POINT], [1.0], None, NOW._replace(gamma_encode={}), FITTING),
        lambda kernel: kernel.payloads([POINT], [1.0], None, NOW._replace(gamma_encode={"": 1.0, "x": "y"}), FITTING),
        lambda kernel: kernel.payloads([None], [1.0], None, NOW, FITTING),
        lambda kernel: kernel.answers([(POINT, ONE)], [], FITS),
        lambda kernel: kernel.answers([(POINT, ONE[:-1])], [1.0], FITS),
        lambda kernel: kernel.answers([POINT], [1.0], FITS),
        lambda kernel: kernel.course(1.0, LEVEL._replace(values=())),
        lambda kernel: kernel.course(1.0, LEVEL._replace(values=(1.0,) * 65)),
        lambda kernel: kernel.course(1.0, LEVEL._replace(weights=(1.0,))),
        lambda kernel: kernel.charged([(POINT, 1.0, 1.0, 1.0)], [], COST, None),
        lambda kernel: kernel.charged([POINT], [1.0], COST, None),
        lambda kernel: kernel.around(0.0, 0.0, np.ones(5)),
    ],
)
def test_the_extension_takes_no_size_and_no_type_on_trust(wrong: Callable[[object], object]) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        wrong(COMPILED)


@both
def test_what_is_refused_above_is_refused_for_one_fault_each() -> None:
    assert COMPILED is not None
    assert COMPILED.within([1.0], FITS) and COMPILED.payloads([POINT], [1.0], [1.0], NOW, FITTING)
    assert COMPILED.answers([(POINT, ONE)], [1.0], FITS) and math.isfinite(COMPILED.course(1.0, LEVEL))
    assert COMPILED.charged([(POINT, 1.0, 1.0, 1.0)], [1.0], COST, None)
    assert COMPILED.around(0.0, 0.0, np.ones(4))


def test_a_kernel_is_chosen() -> None:
    assert KERNEL is (COMPILED or pure)
