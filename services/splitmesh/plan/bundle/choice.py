"""Owns which of a plan's operating points are worked with, by the name of the policy."""

from __future__ import annotations

from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.baselines import fixed_point, only_points
from splitmesh.policy.point import OperatingPoint


def points_for(policy: str, bundle: Bundle) -> tuple[OperatingPoint, ...]:
    """Those that `bundle` offers; for a policy held to some, those and more levels of them."""
    if beginning := only_points(policy):
        return bundle.points_like(beginning)
    return bundle.points_with(fixed_point(policy))
