"""Owns what the options of `splitmesh bench policy` mean: numbers with units, names, plans. Runs nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import click

from splitmesh.errors import SettingsError
from splitmesh.plan.bundle.choice import points_for
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.baselines import make_policy
from splitmesh.settings.units import parse_seconds
from splitmesh.sim.compare import STATIC_BEST, Wanted
from splitmesh.sim.oracle import ORACLES
from splitmesh.sim.plan import SimPlan, sim_plan
from splitmesh.sim.recovery import REGRET_FRAMES, WINDOW
from splitmesh.sim.shift import Shift

_MOST_SLOWDOWN = 1000.0
_AFTER_S = 10.0
"""A run goes on for so long after a shift."""


def seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        return parse_seconds(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def milliseconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        return round(parse_seconds(value, bare="ms") * 1e3, 6)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def factors(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[float, ...]:
    """Numbers with commas between them, each once."""
    try:
        found = tuple(dict.fromkeys(float(word) for word in names(value)))
    except ValueError:
        found = ()
    if not found or not all(math.isfinite(each) and 0.01 <= each <= _MOST_SLOWDOWN for each in found):
        raise click.BadParameter(f'must be numbers from 0.01 to {_MOST_SLOWDOWN:g} like "4" or "4,10"')
    return found


def names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def plans_of(bundle: Bundle) -> Callable[[str], SimPlan]:
    """By the name of the policy."""

    @cache
    def plan_of(name: str) -> SimPlan:
        if bundle.profile is None:
            raise SettingsError(f"plan {bundle.folder} has no times", key="plan")
        return sim_plan(points_for(name, bundle), bundle.plan, bundle.profile)

    return plan_of


def check(wanted: Wanted) -> None:
    """A wrong name shall fail before the work. Raises SettingsError."""
    for name in wanted.policies:
        if name != STATIC_BEST and name not in ORACLES:
            make_policy(name, wanted.plan_of(name).points)


def disturbed(wanted: Wanted, shift: Shift) -> Wanted:
    """Of `wanted`, what `shift` is put into: the policies that exist by themselves, in runs as long as that takes.

    Raises SettingsError if there are none.
    """
    alone = tuple(name for name in wanted.policies if name != STATIC_BEST and name not in ORACLES)
    if not alone:
        raise SettingsError(f"{', '.join(wanted.policies)}: none of these can recover from a shift", key="policies")
    duration_s = shift.end_s + max(_AFTER_S, (REGRET_FRAMES + WINDOW) / wanted.scenario.fps)
    return replace(wanted, policies=alone, scenario=replace(wanted.scenario, duration_s=duration_s))
