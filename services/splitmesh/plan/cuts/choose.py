"""Owns which cuts are worth their price: a shortlist from the graph alone, then the few that measurements keep.

A policy needs early cuts for a slow edge, small ones for a slow link and late ones for a slow worker; cuts that lie
between two others and send more than both serve nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from splitmesh.plan.cuts.cut import Cut, Rejected
from splitmesh.plan.cuts.prune import EARLIEST_SHARE, LATEST_SHARE, bettered, shapes_of

CHOSEN = 4
SHORTLISTED = 8
AT_LEAST = 3
LEAST_GAP = 0.04
"""Head shares closer than this are the same cut for the policy."""
USEFUL_SHARE = (EARLIEST_SHARE, LATEST_SHARE)
"""Below: the head is mere re-arrangement of the picture. Above: one may as well finish the model."""
CLEARLY_SMALLER = 1.25
"""A cut so many times smaller than another one of its head share is worth having beside it."""
LEAST_FIDELITY = 0.5
"""Of the best cut's fidelity: below, coding breaks the cut."""
FIDELITY_NOISE = 0.005
"""Fidelities closer than this are the same: calibration sees tens of frames."""

LEAST_SAVING = 0.1
"""Of the thriftiest cut's saving per byte."""


@dataclass(frozen=True, slots=True)
class Screened:
    """What a cut sends and keeps at one representative codec and level, on real frames."""

    bytes_mean: float
    fidelity: float
    """Agreement with the whole model, [0, 1]."""


def useful(cut: Cut) -> bool:
    """Worth its place: does real work, leaves real work, and is no larger than the picture itself."""
    return USEFUL_SHARE[0] <= cut.head_share <= USEFUL_SHARE[1] and cut.input_ratio <= 1.0


def shortlist(candidates: Sequence[Cut], count: int = SHORTLISTED) -> list[Cut]:
    """At most `count` cuts in order of `node_index`; from the graph only, the same on every machine.

    The first four are chosen among the frontiers of the stored order that are the first of their shapes and that no
    single tensor betters. What else fits comes from all candidates: useful ones that add a head share, or that are
    clearly smaller than any chosen one near theirs. Others only fill up to three.
    """
    chosen: list[Cut] = []
    worthy = [c for c in candidates if useful(c)]
    _add(chosen, [c for c in worthy if _plain(c, candidates)], min(CHOSEN, count), _gap)
    _add(chosen, worthy, count, _gap_to_smaller)
    _fill(chosen, candidates, min(AT_LEAST, count))
    return sorted(chosen, key=lambda c: (c.node_index, c.name))


def passed_over(candidates: Sequence[Cut], chosen: Sequence[Cut]) -> list[Rejected]:
    """Why each candidate is not on the shortlist `chosen`."""
    reasons = []
    for cut in (c for c in candidates if c not in chosen):
        if cut.input_ratio > 1.0:
            why = f"{round(100 * (cut.input_ratio - 1))} % larger than the picture"
        elif cut.head_share < USEFUL_SHARE[0]:
            why = f"its head does {100 * cut.head_share:.1f} % of the work: the picture re-arranged"
        elif cut.head_share > USEFUL_SHARE[1]:
            why = f"its head does {100 * cut.head_share:.1f} % of the work: one may as well finish"
        else:
            nearest = min(chosen, key=lambda c: (abs(c.head_share - cut.head_share), c.name))
            why = f"adds little to {nearest.name}, whose head does {100 * nearest.head_share:.0f} % of the work"
            why += f" (here {100 * cut.head_share:.0f} %)"
        reasons.append(Rejected(cut.name, "graph", why))
    return reasons


def keep(
    cuts: Sequence[Cut], screened: Mapping[str, Screened], count: int = CHOSEN
) -> tuple[list[Cut], list[Rejected]]:
    """At most `count` of `cuts` by what was measured, in order of `node_index`, and why the others go.

    A cut goes if it keeps less than half of what the best one keeps, or if an earlier and a later one (or one of its
    own head share) both send no more and keep no less: it is best for no edge, link or worker. It also goes if per
    byte it saves the edge less than a tenth of what another saves: the whole model here sends nothing at all, and is
    hardly slower. Of the rest the first is the one that sends least for what it keeps; each further one adds most:
    the gap in head share to the nearest kept one or to 1, by that same worth. At least one stays if there is any.
    Raises KeyError for a cut that was not screened.
    """
    why: dict[str, str] = {}
    best = max((screened[c.name].fidelity for c in cuts), default=0.0)
    usable = [c for c in cuts if screened[c.name].fidelity >= LEAST_FIDELITY * best]
    thrifty = max(usable, key=lambda c: (_saved_per_byte(c, screened), c.name), default=None)
    for cut in cuts:
        fidelity = screened[cut.name].fidelity
        pair = _dominating(cut, cuts, screened)
        if fidelity < LEAST_FIDELITY * best:
            why[cut.name] = f"keeps only {fidelity:.2f} of the answers, others up to {best:.2f}"
        elif pair and pair[0] is pair[1]:
            why[cut.name] = f"{pair[0].name}, as early, sends no more and keeps no less"
        elif pair:
            why[cut.name] = f"{pair[0].name} before and {pair[1].name} behind it send no more and keep no less"
        elif thrifty and _saved_per_byte(cut, screened) < LEAST_SAVING * _saved_per_byte(thrifty, screened):
            why[cut.name] = f"{_saving(cut, screened)}; {thrifty.name} {_saving(thrifty, screened)}"
    rest = [c for c in cuts if c.name not in why]
    kept: list[Cut] = []
    while rest and len(kept) < count:
        chosen = max(rest, key=lambda c: (_measured_gain(c, kept, screened[c.name]), -c.node_index, c.name))
        rest.remove(chosen)
        kept.append(chosen)
    why.update((c.name, f"adds least to the {len(kept)} kept ones; {_nearest(c, kept).name} is near") for c in rest)
    reasons = [Rejected(c.name, "pareto", why[c.name]) for c in cuts if c.name in why]
    return sorted(kept, key=lambda c: (c.node_index, c.name)), reasons


def _plain(cut: Cut, candidates: Sequence[Cut]) -> bool:
    """A frontier that no other candidate makes pointless on an idle mesh: none as small comes as early."""
    earlier = (c for c in candidates if c.node_index < cut.node_index)
    first = all(shapes_of(c) != shapes_of(cut) for c in earlier)
    return cut.is_frontier and first and bettered(cut, candidates) is None


def _add(chosen: list[Cut], pool: Sequence[Cut], count: int, gap: Callable[[Cut, Sequence[Cut]], float]) -> None:
    """Let `chosen` grow to `count` cuts: the smallest first, then the one that adds most, if it adds."""
    rest = [c for c in pool if c not in chosen]
    while rest and len(chosen) < count:
        best = max(rest, key=lambda c: (_gain(c, chosen, gap), -c.node_index, c.name))
        rest.remove(best)
        if gap(best, chosen) >= LEAST_GAP:
            chosen.append(best)


def _fill(chosen: list[Cut], candidates: Sequence[Cut], count: int) -> None:
    rest = [c for c in candidates if c not in chosen]
    while rest and len(chosen) < count:
        best = max(rest, key=lambda c: (useful(c), _gain(c, chosen, _gap), -c.node_index, c.name))
        rest.remove(best)
        chosen.append(best)


def _gain(cut: Cut, chosen: Sequence[Cut], gap: Callable[[Cut, Sequence[Cut]], float]) -> float:
    if not chosen:
        return 1.0 / cut.elements
    return min(gap(cut, chosen), 1.0 - cut.head_share) / math.sqrt(cut.elements)


def _gap(cut: Cut, chosen: Sequence[Cut]) -> float:
    return min((abs(cut.head_share - other.head_share) for other in chosen), default=1.0)


def _gap_to_smaller(cut: Cut, chosen: Sequence[Cut]) -> float:
    return _gap(cut, [other for other in chosen if other.elements <= CLEARLY_SMALLER * cut.elements])


def _nearest(cut: Cut, others: Sequence[Cut]) -> Cut:
    return min(others, key=lambda other: (abs(other.head_share - cut.head_share), other.name))


def _dominating(cut: Cut, cuts: Sequence[Cut], screened: Mapping[str, Screened]) -> tuple[Cut, Cut] | None:
    """An earlier and a later cut that both send no more and keep no less; the same one if its head share is equal."""
    mine = screened[cut.name]
    better: list[Cut] = []
    for other in cuts:
        its = screened[other.name]
        less = (its.bytes_mean, -its.fidelity, other.node_index, other.name)
        sends_less = less < (mine.bytes_mean, -mine.fidelity, cut.node_index, cut.name)
        if sends_less and its.fidelity >= mine.fidelity - FIDELITY_NOISE:
            better.append(other)
    earlier = [c for c in better if c.head_share <= cut.head_share + LEAST_GAP]
    later = [c for c in better if c.head_share >= cut.head_share - LEAST_GAP]
    both = [c for c in earlier if c in later]
    if both:
        return _nearest(cut, both), _nearest(cut, both)
    return (_nearest(cut, earlier), _nearest(cut, later)) if earlier and later else None


def _saved_per_byte(cut: Cut, screened: Mapping[str, Screened]) -> float:
    return (1.0 - cut.head_share) / max(screened[cut.name].bytes_mean, 1.0)


def _saving(cut: Cut, screened: Mapping[str, Screened]) -> str:
    sent = screened[cut.name].bytes_mean / 1000
    return f"saves the edge {100 * (1 - cut.head_share):.0f} % of the work for {sent:.1f} kB"


def _measured_gain(cut: Cut, kept: Sequence[Cut], of: Screened) -> float:
    """Fidelity counts by its fourth power: a tenth less of it must halve the bytes to be worth it."""
    worth = of.fidelity**4
    if not kept:
        return worth / max(of.bytes_mean, 1.0)
    return worth * min(_gap(cut, kept), 1.0 - cut.head_share) / math.sqrt(max(of.bytes_mean, 1.0))
