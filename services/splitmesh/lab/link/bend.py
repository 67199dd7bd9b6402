"""Owns bends: stretches of time in which a link carries a factor of what its trace says. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

from splitmesh.errors import SettingsError
from splitmesh.provision.link.trace import LinkTrace, Piece
from splitmesh.wire.lab import MAX_BEND_S, MAX_FACTOR, MIN_BEND_S, MIN_FACTOR


class Bend(NamedTuple):
    """`factor` times the rate, from `start_s` of the trace's clock for `length_s`."""

    start_s: float
    length_s: float
    factor: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s


@dataclass(frozen=True)
class BentTrace(LinkTrace):
    """A trace with bends on top, which are not looped. bends: ascending, none begins before the last has ended."""

    bends: tuple[Bend, ...] = ()

    def rate_bps(self, t_s: float) -> float:
        return super().rate_bps(t_s) * self._next(t_s)[0]

    def pieces(self, from_s: float) -> Iterator[Piece]:
        for start_s, end_s, rate_bps in super().pieces(from_s):
            at_s = start_s
            while at_s < end_s:
                factor, until_s = self._next(at_s)
                yield Piece(at_s, min(until_s, end_s), rate_bps * factor)
                at_s = min(until_s, end_s)

    def finish_s(self, start_s: float, size_bytes: int) -> float:
        left = float(size_bytes)
        bent_until_s = max((bend.end_s for bend in self.bends), default=-math.inf)
        for piece in self.pieces(start_s):
            if piece.start_s >= bent_until_s:
                return super().finish_s(piece.start_s, math.ceil(left))
            speed = piece.rate_bps / 8
            if speed > 0 and left <= speed * (piece.end_s - piece.start_s):
                return piece.start_s + left / speed
            left -= speed * (piece.end_s - piece.start_s)
        return math.inf

    def _next(self, t_s: float) -> tuple[float, float]:
        """(the factor at `t_s`, until when it holds)."""
        for bend in self.bends:
            if t_s < bend.start_s:
                return 1.0, bend.start_s
            if t_s < bend.end_s:
                return bend.factor, bend.end_s
        return 1.0, math.inf


def bent(trace: LinkTrace, bend: Bend) -> BentTrace:
    """`trace` with `bend` on top, which takes the place of what is left of an earlier one."""
    values = {field.name: getattr(trace, field.name) for field in fields(LinkTrace) if field.init}
    earlier = trace.bends if isinstance(trace, BentTrace) else ()
    kept = tuple(
        each._replace(length_s=min(each.end_s, bend.start_s) - each.start_s)
        for each in earlier
        if each.start_s < bend.start_s
    )
    return BentTrace(**values, bends=(*kept, bend))


def parse_command(line: str) -> tuple[float, float]:
    """(factor, seconds) of `bend FACTOR SECONDS`. Raises SettingsError (key "commands")."""
    try:
        word, factor, length_s = line.split()
        wanted = float(factor), float(length_s)
    except ValueError:
        raise _not_understood(line) from None
    if word != "bend" or not (MIN_FACTOR <= wanted[0] <= MAX_FACTOR and MIN_BEND_S <= wanted[1] <= MAX_BEND_S):
        raise _not_understood(line)
    return wanted


def _not_understood(line: str) -> SettingsError:
    return SettingsError(
        f"the link does not understand {line[:80].strip()!r}",
        key="commands",
        advice=f"bend FACTOR SECONDS: {MIN_FACTOR:g} to {MAX_FACTOR:g}, {MIN_BEND_S:g} to {MAX_BEND_S:g}",
    )
