"""Owns how many runs are got through: the seam at which a caller may spread them over processes, and the share done.

This package starts no process itself: what is handed in as `Spread` may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Spread(Protocol):
    """Does all tasks and returns their results in the order of `tasks`. `work`, tasks and results can be pickled."""

    def __call__(
        self, work: Callable[[Task], Result], tasks: Sequence[Task], told: Callable[[Task], None]
    ) -> list[Result]:
        """told: called with each task once it is done, in any order."""


def in_turn(work: Callable[[Task], Result], tasks: Sequence[Task], told: Callable[[Task], None]) -> list[Result]:
    """One after the other, here."""
    results = []
    for task in tasks:
        results.append(work(task))
        told(task)
    return results


_WEIGHTS = {"oracle-horizon": 25.0, "adaptive": 2.0}


def weight(policy: str) -> float:
    """What a run under that policy costs, a static one being 1: measured on the default plan, rounded."""
    return _WEIGHTS.get(policy, 1.0)


def shares(policies: Iterable[str], progress: Callable[[float], None]) -> Callable[[str], None]:
    """Called with the policy of each run that is done, tells `progress` the share of the work, up to 1."""
    total, done = sum(map(weight, policies)), 0.0

    def tell(policy: str) -> None:
        nonlocal done
        done += weight(policy)
        progress(done / total)

    return tell
