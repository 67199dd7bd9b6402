"""Owns which levels of a codec a curve is drawn through: those whose fidelity brackets what is of interest.

Runs nothing itself: it is told what fidelity a level keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

PROBED = (0.84, 0.993)
"""A little wider than the fidelities that are compared: a few frames tell them only roughly."""
COARSE = 8
POINTS = 8

Probe = Callable[[Sequence[int]], Mapping[int, float]]
"""Levels → fidelity on a few frames; those that can't be coded are left out."""


def bracketing_levels(
    probe: Probe, low: int, high: int, *, points: int = POINTS, worst: float = PROBED[0]
) -> list[int]:
    """At most `points` levels of [low, high], evenly spread, from about fidelity `worst` to the better of `PROBED`.

    Fidelity is taken to rise with the level, more or less. Two rounds of probes: a coarse grid over all levels, then
    a finer one where the grid passes the two fidelities. Where no level is so bad, the range begins with the lowest;
    where none is so good, it ends with the first that is as good as any. [] if no level can be coded.
    """
    known = dict(probe(_spread(low, high, COARSE)))
    if not known:
        return []
    finer = {level for pair in (_worst(known, worst), _best(known)) for level in _spread(*pair, 5)} - known.keys()
    if finer:
        known |= probe(sorted(finer))
    return _spread(_worst(known, worst)[0], _best(known)[1], points)


def _worst(known: Mapping[int, float], worst: float) -> tuple[int, int]:
    """Neighbours between which fidelity first passes `worst`; twice the lowest level if it starts above."""
    levels = sorted(known)
    above = next((i for i, level in enumerate(levels) if known[level] > worst), len(levels) - 1)
    return levels[max(above - 1, 0)], levels[above]


def _best(known: Mapping[int, float]) -> tuple[int, int]:
    """Neighbours between which it first reaches the upper bound, or else the most that any level keeps."""
    levels = sorted(known)
    wanted = min(PROBED[1], max(known.values()))
    reached = next(i for i, level in enumerate(levels) if known[level] >= wanted)
    return levels[max(reached - 1, 0)], levels[reached]


def _spread(low: int, high: int, count: int) -> list[int]:
    """At most `count` whole numbers from `low` to `high`, both among them."""
    return sorted({round(low + (high - low) * i / (count - 1)) for i in range(count)})
