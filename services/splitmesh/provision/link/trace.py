"""Owns the link as a function of time: rate, delay, jitter, outages. Pure; reads no file and no clock."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, NamedTuple

from splitmesh.errors import SettingsError
from splitmesh.settings.units import Outage

DEFAULT_DELAY_MS: Final = 25.0
"""One-way delay of traces that record none."""
DEFAULT_DOWN_BPS: Final = 20e6
_SETTLE: Final = 3
_LEAST_BPS: Final = 1.0


class Step(NamedTuple):
    """Conditions from `start_s` until the next step. Rate in bit/s, one-way delay and its jitter in ms."""

    start_s: float
    rate_bps: float
    delay_ms: float = DEFAULT_DELAY_MS
    jitter_ms: float = 0.0


class Piece(NamedTuple):
    """A stretch of constant rate, [start_s, end_s)."""

    start_s: float
    end_s: float
    rate_bps: float


@dataclass(frozen=True)
class LinkTrace:
    """What a link offers over time, t = 0 being when the trace clock begins.

    steps: ascending, the first at 0; before 0 the first one holds. period_s: length of the steps' schedule.
    loop: start again after `period_s`, else the last step holds. outages: on top, not looped.
    down_bps: rate of the other direction, which shares delay and outages. A rate below 1 bit/s counts as none.
    Raises SettingsError (key "link") when the steps contradict that.
    """

    name: str
    steps: tuple[Step, ...]
    period_s: float
    loop: bool = True
    outages: tuple[Outage, ...] = ()
    down_bps: float = DEFAULT_DOWN_BPS
    note: str = ""
    """Where the figures come from, if not made up."""
    _starts: tuple[float, ...] = field(init=False, repr=False, compare=False)
    _outages: tuple[Outage, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = tuple(step.start_s for step in self.steps)
        if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(starts)):
            raise _wrong(self.name, "its steps must start at 0 s and ascend")
        if not starts[-1] < self.period_s < math.inf:
            raise _wrong(self.name, f"its length of {self.period_s:g} s ends before its last step")
        for step in self.steps:
            numbers = (step.rate_bps, step.delay_ms, step.jitter_ms)
            if not all(0 <= number < math.inf for number in numbers):
                raise _wrong(
                    self.name, f"rate, delay and jitter at {step.start_s:g} s must be finite and not negative"
                )
        if any(not (o.start_s >= 0 and o.length_s > 0) for o in self.outages):
            raise _wrong(self.name, "an outage needs a start from 0 s and a length above 0 s")
        if any(0 < step.rate_bps < _LEAST_BPS for step in self.steps):
            kept = (step if step.rate_bps >= _LEAST_BPS else step._replace(rate_bps=0.0) for step in self.steps)
            object.__setattr__(self, "steps", tuple(kept))
        object.__setattr__(self, "_starts", starts)
        object.__setattr__(self, "_outages", _merged(self.outages))

    def step_at(self, t_s: float) -> Step:
        """The step in force at `t_s`, its `start_s` as in `steps`."""
        return self.steps[self._index(t_s)[0]]

    def rate_bps(self, t_s: float) -> float:
        """Rate at this very moment, 0 in an outage. A mahimahi trace is a comb: see `mean_bps`."""
        return 0.0 if self.outage_at(t_s) else self.step_at(t_s).rate_bps

    def mean_bps(self, from_s: float, to_s: float) -> float:
        """Mean rate over [from_s, to_s)."""
        return self.capacity_bytes(from_s, to_s) * 8 / (to_s - from_s)

    def delay_ms(self, t_s: float) -> float:
        """One-way delay for what leaves the queue at `t_s`."""
        return self.step_at(t_s).delay_ms

    def outage_at(self, t_s: float) -> Outage | None:
        """The outage (overlapping ones merged) that covers `t_s`."""
        return next((outage for outage in self._outages if outage.start_s <= t_s < outage.end_s), None)

    def cut_at(self, t_s: float) -> bool:
        """Whether connections are refused at `t_s`."""
        return any(outage.cut and outage.start_s <= t_s < outage.end_s for outage in self.outages)

    def pieces(self, from_s: float) -> Iterator[Piece]:
        """Stretches of constant rate from `from_s` on, without gaps; ends when nothing will ever change again."""
        t = from_s
        while True:
            index, lap_s = self._index(t)
            last = index + 1 == len(self.steps)
            end = lap_s + (self.period_s if last else self._starts[index + 1])
            if last and not self.loop:
                end = math.inf
            rate = self.steps[index].rate_bps
            outage = self.outage_at(t)
            if outage:
                end, rate = outage.end_s, 0.0
            else:
                end = min([end, *(other.start_s for other in self._outages if other.start_s > t)])
            if end <= t:  # one float step short of the border
                end = math.nextafter(t, math.inf)
            yield Piece(t, end, rate)
            if end == math.inf:
                return
            t = end

    def finish_s(self, start_s: float, size_bytes: int) -> float:
        """When the last of `size_bytes` has left, if the link begins with them at `start_s`; inf for never."""
        left = float(size_bytes)
        settled_s = max([start_s, *(outage.end_s for outage in self._outages)]) + self.period_s
        for piece in self.pieces(start_s):
            if piece.start_s >= settled_s:
                return self._finish_in_laps(piece.start_s, left)
            speed = piece.rate_bps / 8
            length = piece.end_s - piece.start_s
            if speed > 0 and left <= speed * length:
                return piece.start_s + left / speed
            left -= speed * length
        return math.inf

    def _finish_in_laps(self, start_s: float, left: float) -> float:
        """As `finish_s`, from where all laps are alike: whole ones need not be walked through."""
        lap_bytes = self.capacity_bytes(start_s, start_s + self.period_s)
        if lap_bytes <= 0:
            return math.inf
        laps = max(0, math.ceil(left / lap_bytes) - 1)
        left -= laps * lap_bytes
        for piece in self.pieces(start_s + laps * self.period_s):
            speed = piece.rate_bps / 8
            length = piece.end_s - piece.start_s
            if speed > 0 and left <= speed * length:
                return piece.start_s + left / speed
            left -= speed * length
        return math.inf

    def capacity_bytes(self, from_s: float, to_s: float) -> float:
        """Bytes that the link can take over [from_s, to_s)."""
        total = 0.0
        for piece in self.pieces(from_s):
            if piece.start_s >= to_s:
                break
            total += piece.rate_bps / 8 * (min(piece.end_s, to_s) - piece.start_s)
        return total

    def landing_bytes(self, from_s: float, to_s: float) -> float:
        """Bytes that can come out at the far end over [from_s, to_s): capacity, seen one delay and jitter later."""
        return self.capacity_bytes(self._sent_s(from_s), self._sent_s(to_s))

    def with_outages(self, outages: Sequence[Outage]) -> LinkTrace:
        """This link with further outages."""
        return replace(self, outages=(*self.outages, *outages))

    def downlink(self, rate_bps: float | None = None) -> LinkTrace:
        """The other direction: same delays and outages at one rate, 0 where this trace's steps are all 0."""
        rate = self.down_bps if rate_bps is None else rate_bps
        if not any(step.rate_bps for step in self.steps):
            rate = 0.0
        steps: list[Step] = []
        for step in self.steps:
            if not steps or steps[-1][2:] != step[2:]:
                steps.append(step._replace(rate_bps=rate))
        return replace(self, name=f"{self.name} (down)", steps=tuple(steps))

    def to_rows(self, *, duration_s: float | None = None, step_s: float = 0.25) -> list[dict[str, Any]]:
        """`[{"t_s", "rate_bps" (mean over the row), "delay_ms", "jitter_ms", "outage"}, …]`, for plots."""
        end_s = self.period_s if duration_s is None else duration_s
        rows: list[dict[str, Any]] = []
        for index in range(max(1, math.ceil(end_s / step_s - 1e-9))):
            t = index * step_s
            step = self.step_at(t)
            rows.append(
                {
                    "t_s": round(t, 6),
                    "rate_bps": self.mean_bps(t, t + step_s),
                    "delay_ms": step.delay_ms,
                    "jitter_ms": step.jitter_ms,
                    "outage": self.outage_at(t) is not None,
                }
            )
        return rows

    def describe(self) -> str:
        """One line: name, length, rates over 1 s, delays, outages, origin."""
        window_s = min(1.0, self.period_s)
        rates = [row["rate_bps"] / 1e6 for row in self.to_rows(step_s=window_s)][:600]
        delays = [step.delay_ms for step in self.steps]
        parts = [
            f"{self.name}: {self.period_s:.0f} s{' looped' if self.loop and len(self.steps) > 1 else ''}",
            f"{sum(rates) / len(rates):.3g} Mbit/s up ({min(rates):.3g}–{max(rates):.3g})",
            f"{min(self.down_bps, self.downlink().steps[0].rate_bps) / 1e6:.3g} Mbit/s down",
            f"delay {min(delays):.3g}–{max(delays):.3g} ms",
            *(f"{'cut' if o.cut else 'outage'} {o.length_s:g} s at {o.start_s:g} s" for o in self.outages),
        ]
        return ", ".join(parts) + (f" ({self.note})" if self.note else "")

    def _index(self, t_s: float) -> tuple[int, float]:
        """(index of the step in force at `t_s`, when its lap of the schedule began)."""
        if t_s <= 0:
            return 0, 0.0
        lap_s = math.floor(t_s / self.period_s) * self.period_s if self.loop else 0.0
        return bisect_right(self._starts, t_s - lap_s) - 1, lap_s

    def _sent_s(self, t_s: float) -> float:
        """When what lands at `t_s` left the queue: the fixed point of u = t − delay(u) − jitter(u).

        In an outage nothing lands; at its very end all that would have is still to come.
        """
        outage = next((outage for outage in self._outages if outage.start_s < t_s <= outage.end_s), None)
        t_s = sent = outage.start_s if outage else t_s
        for _ in range(_SETTLE):
            step = self.step_at(sent)
            sent = t_s - (step.delay_ms + step.jitter_ms) / 1e3
        return sent


def _merged(outages: Sequence[Outage]) -> tuple[Outage, ...]:
    merged: list[Outage] = []
    for outage in sorted(outages):
        if merged and outage.start_s <= merged[-1].end_s:
            start = merged[-1].start_s
            merged[-1] = Outage(start, max(outage.end_s, merged[-1].end_s) - start)
        else:
            merged.append(Outage(outage.start_s, outage.length_s))
    return tuple(merged)


def _wrong(name: str, rule: str) -> SettingsError:
    return SettingsError(f"link {name!r}: {rule}", key="link")
