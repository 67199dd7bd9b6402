"""Owns which of two equal kernels does a decision's arithmetic: the compiled one, or plain Python where that was not
built."""

from __future__ import annotations

from typing import Final, Protocol

from splitmesh.policy.moment import Moment
from splitmesh.policy.numeric import pure
from splitmesh.policy.numeric.values import F64, Chances, Costs, Course, Payload, Terms, Valued
from splitmesh.policy.point import OperatingPoint


class Kernel(Protocol):
    """See `pure`."""

    def within(self, predicted_ms: list[float], chances: Chances, /) -> list[float]: ...

    def payloads(
        self,
        points: list[OperatingPoint],
        sizes: list[float],
        fidelities: list[float] | None,
        now: Moment,
        terms: Terms,
        /,
    ) -> list[Payload]: ...

    def answers(
        self, asked: list[tuple[OperatingPoint, Payload]], backlogs_ms: list[float], chances: Chances, /
    ) -> list[Valued]: ...

    def course(self, backlog: float, course: Course, /) -> float: ...

    def charged(
        self, valued: list[Valued], device_ms: list[float], costs: Costs, behind: Course | None, /
    ) -> list[Valued]: ...

    def around(self, x: float, y: float, audits: F64, /) -> tuple[float, float]: ...


def _compiled() -> Kernel | None:
    try:
        from splitmesh.policy.numeric import _native
    except ImportError:
        return None
    return _native


COMPILED: Final = _compiled()
"""None where the extension was not built."""
KERNEL: Final[Kernel] = COMPILED or pure
