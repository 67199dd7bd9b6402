"""Owns what was done to a run on purpose while it ran: one value each, in words and as JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Blow(StrEnum):
    """What can be done to a lab."""

    BEND_LINK = "bend-link"
    KILL_WORKER = "kill-worker"
    RESTART_WORKER = "restart-worker"
    SLOW_EDGE = "slow-edge"


@dataclass(frozen=True, slots=True)
class Strike:
    """at_s: of the run. target: worker or edge, "" for the link. factor: of the link's rate, or of the edge's times;
    None where there is none, as with `length_s`."""

    at_s: float
    blow: Blow
    target: str = ""
    factor: float | None = None
    length_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "at_s": round(self.at_s, 2),
            "what": self.blow.value,
            "target": self.target,
            "factor": self.factor,
            "length_s": self.length_s,
        }


def in_words(strike: dict[str, Any]) -> str:
    """One of a summary's "strikes", for people."""
    at, target, factor = f"at {strike['at_s']:.1f} s", strike["target"], strike["factor"]
    match Blow(strike["what"]):
        case Blow.BEND_LINK:
            return f"link bent {at}: ×{factor:g} for {strike['length_s']:g} s"
        case Blow.KILL_WORKER:
            return f"{target} killed {at}"
        case Blow.RESTART_WORKER:
            return f"{target} started again {at}"
        case Blow.SLOW_EDGE:
            return f"{target} slowed {at}: ×{factor:g}"
