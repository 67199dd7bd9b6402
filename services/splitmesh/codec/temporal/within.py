"""Owns the search for a level at which a payload is small enough. Codes nothing itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

_TRIES: Final = 5
"""In all: a coder takes milliseconds."""
_LEVELS_PER_HALF: Final = 4.0
"""Levels that halve a payload, until two sizes say it better. Keyframes take more (8 to 14), but too coarse a try is
worse: what follows a keyframe may come down to nothing within a few levels."""
_AIM: Final = 0.9
"""Of the limit: sizes between two levels are only foreseen."""
_ENOUGH: Final = 0.75
"""Of the limit: a payload that fills as much is not made finer again."""


def within(code: Callable[[int], tuple[T, int]], level: int, limit_bytes: float) -> tuple[T, int]:
    """(what `code` made, its level): at `level` if that is small enough, else at a coarser one, the finest of a few
    tries that is. If none is small enough, the smallest.

    code: level → (anything, its size in bytes), for levels from 0 to `level`.
    """
    made = {level: code(level)}
    while len(made) < _TRIES:
        following = _next({at: size for at, (_, size) in made.items()}, limit_bytes)
        if following is None:
            break
        made[following] = code(following)
    small = [at for at, (_, size) in made.items() if size <= limit_bytes]
    best = max(small) if small else min(made, key=lambda at: made[at][1])
    return made[best][0], best


def _next(sizes: dict[int, int], limit_bytes: float) -> int | None:
    """The level to try after those of known `sizes`; None: enough is known."""
    large = {at: size for at, size in sizes.items() if size > limit_bytes}
    if not large:
        return None
    above = min(large)
    over = math.log2(large[above] / max(_AIM * limit_bytes, 1.0))
    small = max((at for at in sizes if at < above and at not in large), default=None)
    if small is not None:
        if above - small <= 1 or sizes[small] >= _ENOUGH * limit_bytes:
            return None
        share = over / max(math.log2(large[above] / max(sizes[small], 1)), 1e-9)
        return min(max(round(above - share * (above - small)), small + 1), above - 1)
    pace = _LEVELS_PER_HALF
    if len(large) > 1:
        first = max(large)
        pace = max(pace, (first - above) / max(math.log2(large[first] / large[above]), 0.1))
    return max(above - max(1, math.ceil(pace * over)), 0) if above else None
