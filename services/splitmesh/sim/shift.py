"""Owns the shifts that a policy is to recover from: two seconds in which what it measures holds for nothing after."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from splitmesh.errors import SettingsError
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage
from splitmesh.sim.scenario import Burst, Scenario

KINDS: Final = ("edge", "link", "worker")
"""The edge's processor is taken by others; the link collapses; workers are slow."""
_BEYOND_S = 15.0
"""The link is laid out for so long after the last frame."""


@dataclass(frozen=True, slots=True)
class Shift:
    """From `start_s` of the run for `length_s`, seconds."""

    start_s: float = 8.0
    length_s: float = 2.0
    edge_factor: float = 4.0
    """Model runs on the edge take so many times as long."""
    worker_factor: float = 8.0
    """All that workers do takes so many times as long."""
    link_share: float = 0.03
    """The uplink keeps so much of its rate. Delay, downlink and connections stay."""

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s


class Shifted(NamedTuple):
    trace: LinkTrace
    scenario: Scenario


def shifted(kind: str, shift: Shift, trace: LinkTrace, scenario: Scenario) -> Shifted:
    """The same run with `shift` of that kind; "": without any. The trace begins where the run does.

    Raises SettingsError for a kind that there is not.
    """
    share = shift.link_share if kind == "link" else 1.0
    laid = laid_out(trace, scenario, collapse=Outage(shift.start_s, shift.length_s), share=share)
    scenario = replace(scenario, trace_start_s=0.0)
    match kind:
        case "" | "link":
            return Shifted(laid, scenario)
        case "edge":
            burst = Burst(shift.start_s, shift.length_s, shift.edge_factor)
            return Shifted(laid, replace(scenario, edge_bursts=(*scenario.edge_bursts, burst)))
        case "worker":
            burst = Burst(shift.start_s, shift.length_s, shift.worker_factor)
            return Shifted(laid, replace(scenario, worker_bursts=(*scenario.worker_bursts, burst)))
    raise SettingsError(f"no shift is called {kind!r}", key="shift", advice=f"there are {', '.join(KINDS)}")


def laid_out(trace: LinkTrace, scenario: Scenario, *, collapse: Outage, share: float) -> LinkTrace:
    """What `trace` offers from where the run begins, once, with `share` of the rate in `collapse`."""
    begin_s = scenario.trace_start_s
    length_s = scenario.duration_s + _BEYOND_S
    plain = replace(trace, outages=())
    steps: list[Step] = []
    for piece in plain.pieces(begin_s):
        if piece.start_s - begin_s >= length_s:
            break
        step = plain.step_at(piece.start_s)
        edges = {piece.start_s - begin_s, *_within(collapse, piece.start_s - begin_s, piece.end_s - begin_s)}
        for start_s in sorted(edges):
            if steps and start_s <= steps[-1].start_s:  # closer than floats of this size can tell
                continue
            kept = share if collapse.start_s <= start_s < collapse.end_s else 1.0
            steps.append(Step(start_s, piece.rate_bps * kept, step.delay_ms, step.jitter_ms))
    outages = [o for o in trace.outages if o.end_s > begin_s]
    return replace(
        trace,
        steps=tuple(steps),
        period_s=max(length_s, math.nextafter(steps[-1].start_s, math.inf)),
        loop=False,
        outages=tuple(
            Outage(max(o.start_s - begin_s, 0.0), o.end_s - max(o.start_s, begin_s), o.cut) for o in outages
        ),
    )


def _within(collapse: Outage, from_s: float, to_s: float) -> list[float]:
    return [at_s for at_s in (collapse.start_s, collapse.end_s) if from_s < at_s < to_s]
