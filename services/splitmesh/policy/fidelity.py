"""Owns how faithful operating points are to what is in the picture here, learnt from audits. Lets no NaN in or out.

An audit holds one answer of a point against the whole model's answer to the same frame. A family is what errs alike:
points of one place, cut, codec and variant. Its error is so many times what the plan measured, at every level:
`1 − a = e·(1 − a_plan)`. So a finer level never has a lower fidelity than one that the plan has below it.

`e` is the mean of a gamma distribution, the conjugate of errors that come as rare events (Gelman et al., Bayesian
Data Analysis, section 2.6): `e = (k·prior + Σ errors) / (k + Σ planned errors)`. It is no mean of logarithms, since
most audits find no error at all. The prior of a content bin is what the other one says, and that one's prior is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from splitmesh.policy.point import OperatingPoint, Place

MOVING = 0.01
"""Motion from which content counts as moving, as `plan.answers.metrics` has it."""
_PRIOR_ERRORS = 1.0
"""Worth of a prior: the audits in which the plan expects one whole answer wrong; ten where it promises 0.9."""
_KEEP = 0.99
"""Of what was known of a family, with each of its audits."""
LEAST_RATIO, MOST_RATIO = 0.25, 6.0

Family = tuple[Place, str, str, str]


class _Errors(NamedTuple):
    """Sums over audits, older ones faded."""

    found: float
    planned: float

    def ratio(self, prior: float) -> float:
        return (_PRIOR_ERRORS * prior + self.found) / (_PRIOR_ERRORS + self.planned)


_NOTHING = _Errors(0.0, 0.0)


class ContentFidelity:
    """`ratio` and `believed` say what is expected; teach it with `audit`."""

    def __init__(self) -> None:
        self._errors: dict[Family, dict[bool, _Errors]] = {}
        """By family, then by whether it moved."""
        self.audits = 0

    def audit(self, planned: OperatingPoint, agreed: float, *, moving: bool) -> bool:
        """An answer of `planned`, as the plan has that point, agreed by `agreed` with the whole model's, [0, 1].

        False: nothing was learnt, as one of the numbers is out of range, or the point is the model itself.
        """
        if not (0 <= agreed <= 1 and 0 <= planned.fidelity <= 1) or not _errs(planned):
            return False
        bins = self._errors.setdefault(family(planned), {})
        for each, (found, expected) in bins.items():
            bins[each] = _Errors(_KEEP * found, _KEEP * expected)
        found, expected = bins.get(moving, _NOTHING)
        bins[moving] = _Errors(found + 1 - agreed, expected + 1 - planned.fidelity)
        self.audits += 1
        return True

    def ratio(self, point: OperatingPoint, *, moving: bool) -> float:
        """`e` of the point's family, in [LEAST_RATIO, MOST_RATIO]; 1 where nothing was audited."""
        return self._ratio(family(point), moving=moving)

    def ratios(self) -> dict[str, dict[str, float]]:
        """As `ratio`, of each family that was audited, by its name ("split/c/temporal"): `still` and `moving`."""
        return {
            family_name(each): {"still": self._ratio(each, moving=False), "moving": self._ratio(each, moving=True)}
            for each in self._errors
        }

    def _ratio(self, of: Family, *, moving: bool) -> float:
        bins = self._errors.get(of)
        if not bins:
            return 1.0
        elsewhere = bins.get(not moving, _NOTHING).ratio(1.0)
        return min(max(bins.get(moving, _NOTHING).ratio(elsewhere), LEAST_RATIO), MOST_RATIO)

    def believed(self, points: Iterable[OperatingPoint], *, moving: bool) -> tuple[OperatingPoint, ...]:
        """The plan's `points` with the fidelity that is expected of them; the very same ones where that is theirs."""
        ratios = {each: self.ratio(each, moving=moving) for each in points}
        return tuple(each if ratio == 1 else _erring(each, ratio) for each, ratio in ratios.items())


def family(point: OperatingPoint) -> Family:
    return point.place, point.cut, point.codec, point.variant


def family_name(of: Family) -> str:
    """As names of its points begin, without a level."""
    place, cut, codec, variant = of
    if place is Place.LOCAL:
        return f"{place}/{variant}"
    return "/".join(filter(None, (place, f"{cut}+{variant}" if variant else cut, codec)))


def erring(fidelity: float, ratio: float) -> float:
    """`1 − ratio·(1 − fidelity)`, at least 0. Raises ValueError for a ratio that is negative or not finite."""
    if not 0 <= ratio < math.inf:
        raise ValueError(f"an error can't be {ratio} times another")
    return fidelity if ratio == 1 else max(0.0, 1 - ratio * (1 - fidelity))


def _erring(point: OperatingPoint, ratio: float) -> OperatingPoint:
    return replace(point, fidelity=erring(point.fidelity, ratio))


def _errs(point: OperatingPoint) -> bool:
    """It may say something other than the whole model does."""
    return point.remote or (point.place is Place.LOCAL and bool(point.variant))
