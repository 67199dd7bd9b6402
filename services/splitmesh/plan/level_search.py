"""Owns finding the levels of a codec that are worth measuring, where its knob is continuous. Runs no model itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from splitmesh.plan.rate_curve import rising

WORST = 0.85
"""Agreement below which no level is of use."""
STRIDE = 8
"""Levels from one look to the next: for the codecs of `codec.compact` an octave of the quantiser's step."""
CLOSE = 0.003
"""Agreement within which a level is as good as the finest."""
OCTAVES = 3
"""Of steps that are looked at in any case: what few frames can't tell apart others can."""
LEAST_SPAN = 0.1
"""Agreement that is given up from the first to the last level of a cut that keeps less than `WORST` at its best."""


def spread_levels(agreement: Callable[[int], float], *, low: int, high: int, count: int) -> tuple[int, ...]:
    """At most `count` levels, finest first, evenly spread from where more brings nothing down to about `WORST`.

    agreement: with the whole model on few frames, [0, 1], of a level in low … high; it should rise with the level,
    and is asked from `high` downwards until it falls below `WORST`.
    """
    levels, seen = [high], [agreement(high)]
    floor = min(WORST, seen[0] - LEAST_SPAN)
    while seen[-1] >= floor and levels[-1] - STRIDE >= low:
        levels.append(levels[-1] - STRIDE)
        seen.append(agreement(levels[-1]))
    levels.reverse()
    kept = rising(seen[::-1])
    bottom = _crossing(levels, kept, floor)
    top = max(_crossing(levels, kept, kept[-1] - CLOSE) + STRIDE // 2, bottom + OCTAVES * STRIDE)
    top = min(top, high)
    return tuple(sorted({round(level) for level in np.linspace(min(bottom, top), top, count)}, reverse=True))


def _crossing(levels: list[int], kept: list[float], wanted: float) -> int:
    """The level at which `kept`, linear between `levels`, reaches `wanted`."""
    above = next(index for index, value in enumerate(kept) if value >= wanted)
    if above == 0:
        return levels[0]
    share = (wanted - kept[above - 1]) / (kept[above] - kept[above - 1])
    return round(levels[above - 1] + share * (levels[above] - levels[above - 1]))
