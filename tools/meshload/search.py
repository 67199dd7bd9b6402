"""Owns the search for the highest rate that keeps a promise: doubling until it breaks, then halving the gap. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Search:
    """Ask for `rate_rps`, try it, `tell`. Assumes that a rate which is kept is kept below, too.

    precision: the search ends when the least broken rate is within so large a share of the best kept one.
    Ends as well after `tries`, below `least_rps`, and above `most_rps`.
    """

    rate_rps: float
    precision: float = 0.05
    tries: int = 20
    least_rps: float = 1.0
    most_rps: float = 1e6
    kept_rps: float | None = field(default=None, init=False)
    """The highest rate that was kept."""
    broken_rps: float | None = field(default=None, init=False)
    """The lowest rate that was not."""
    done: bool = field(default=False, init=False)
    tried: int = field(default=0, init=False)

    def tell(self, kept: bool) -> None:
        """What became of the try at `rate_rps`; sets the next one, or `done`."""
        self.tried += 1
        if kept:
            self.kept_rps = max(self.kept_rps or 0.0, self.rate_rps)
        else:
            self.broken_rps = min(self.broken_rps or self.rate_rps, self.rate_rps)
        if self.broken_rps is None:
            self._go_to(self.rate_rps * 2)
        elif self.kept_rps is None:
            self._go_to(self.rate_rps / 2)
        elif self.broken_rps <= self.kept_rps * (1 + self.precision):
            self.done = True
        else:
            self._go_to((self.kept_rps * self.broken_rps) ** 0.5)
        self.done = self.done or self.tried >= self.tries

    def _go_to(self, rate_rps: float) -> None:
        self.done = not self.least_rps <= rate_rps <= self.most_rps
        self.rate_rps = rate_rps
