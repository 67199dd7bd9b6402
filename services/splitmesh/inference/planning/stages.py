"""Owns the stages of making a plan: their names, their order and how progress is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

STAGES = (
    *("load", "cuts", "reference", "parity", "screen", "fit", "calibrate"),
    *("quantise", "small", "profile", "track", "write"),
)
"""In the order in which they begin. Without footage there is none from "screen" to "track"; "quantise" and "small"
take place only if they were asked for."""

Progress = Callable[[str, float], None]
"""Told a stage and the share of that stage that is done, [0, 1].

Each stage that takes place is told 0.0 when it begins and 1.0 when it is over, and never goes back. "parity" and
"screen" take turns, cut by cut, and so do "fit" and "calibrate": several stages may be under way at once.
"""


Step = Callable[[float], None]
"""Told the share of one task that is done, [0, 1]."""


def stage(progress: Progress, name: str) -> Step:
    """Tells of one stage."""
    return lambda share: progress(name, share)


def slice_of(step: Step, index: int, count: int) -> Step:
    """Tells of the `index`-th of `count` equal parts of a task as if it were a task of its own."""
    return lambda share: step((index + share) / count)


def each(items: Sequence[T], step: Step) -> Iterator[T]:
    """`items`, one after the other, telling how many are done."""
    step(0.0)
    for done, item in enumerate(items, 1):
        yield item
        step(done / len(items))
    if not items:
        step(1.0)


def quiet(share: float) -> None:
    """For those who do not look."""
