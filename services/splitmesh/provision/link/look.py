"""Owns how a link looks in a few lines of text: a sparkline, rate quantiles, dead seconds, round trips. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from splitmesh.provision.link.trace import LinkTrace

_BARS: Final = "▁▂▃▄▅▆▇█"
_NOTHING: Final = "·"
_WINDOW_S: Final = 1.0
_SHARES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
DEAD_BPS: Final = 8000.0
"""A second in which less than a kilobyte crosses is a dead one."""


@dataclass(frozen=True, slots=True)
class Look:
    """Of one period of a link, by whole seconds (a shorter one counts as one window)."""

    seconds: int
    rate_bps: dict[str, float]
    """`p5`, `p25`, `p50`, `p75`, `p95` of the mean rates over a second, nearest rank."""
    dead_s: int
    """Seconds whose mean rate is below `DEAD_BPS`, outages included."""
    longest_dead_s: int
    """Of them, the most in a row."""
    rtt_ms: dict[str, float]
    """`least` and `most` time of an empty message there and back, without jitter; both ways take the same delay."""
    bars: str
    """The rate over time, from nothing to the highest; `·`: nothing crosses."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """Four lines: picture, rates, dead seconds, round trips."""
        rates = ", ".join(f"{name} {bps / 1e6:.3g}" for name, bps in self.rate_bps.items())
        dead = f"{self.dead_s} of {self.seconds}" + (f", {self.longest_dead_s} in a row" if self.dead_s else "")
        least, most = self.rtt_ms["least"], self.rtt_ms["most"]
        return "\n".join(
            (
                f"rate          {self.bars}",
                f"Mbit/s        {rates}",
                f"dead seconds  {dead}",
                f"round trip    {least:.3g} ms" + (f" to {most:.3g} ms" if most > least else ""),
            )
        )


def look(trace: LinkTrace, *, columns: int = 60) -> Look:
    """One period of `trace`; at most `columns` ≥ 1 bars, each the mean of as much of it."""
    window_s = min(_WINDOW_S, trace.period_s)
    rates = [row["rate_bps"] for row in trace.to_rows(step_s=window_s)]
    ranked = sorted(rates)
    dead = [rate < DEAD_BPS for rate in rates]
    delays_ms = [step.delay_ms for step in trace.steps]
    return Look(
        seconds=len(rates),
        rate_bps={f"p{share * 100:g}": ranked[int(share * (len(ranked) - 1) + 0.5)] for share in _SHARES},
        dead_s=sum(dead),
        longest_dead_s=_longest(dead),
        rtt_ms={"least": 2 * min(delays_ms), "most": 2 * max(delays_ms)},
        bars=sparkline([row["rate_bps"] for row in trace.to_rows(step_s=max(window_s, trace.period_s / columns))]),
    )


def sparkline(values: Sequence[float]) -> str:
    """One character for each of `values` ≥ 0; the highest is a full block."""
    most = max(values, default=0.0)
    return "".join(
        _BARS[min(int(value / most * len(_BARS)), len(_BARS) - 1)] if value > 0 else _NOTHING for value in values
    )


def _longest(flags: Sequence[bool]) -> int:
    longest = running = 0
    for flag in flags:
        running = running + 1 if flag else 0
        longest = max(longest, running)
    return longest
