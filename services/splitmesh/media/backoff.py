"""Owns how long a live source waits before it tries again. Sleeps nowhere."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Doubling delays with jitter: the n-th is drawn from [½, 1] · min(`first_s`·2ⁿ, `max_s`) seconds."""

    first_s: float = 0.5
    max_s: float = 15.0
    rng: random.Random = field(default_factory=random.Random)
    attempts: int = field(default=0, init=False)

    def next_s(self) -> float:
        """The next delay; each call doubles the one after it."""
        ceiling = min(self.first_s * 2.0 ** min(self.attempts, 32), self.max_s)
        self.attempts += 1
        return ceiling * self.rng.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Pictures flow again: the next failure starts from `first_s`."""
        self.attempts = 0
