"""Owns whether the cloud may be used at all. Refuses to know why it is used."""

from __future__ import annotations

from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    """Offloading is allowed."""
    OPEN = "open"
    """Nothing goes out but a rare probe."""
    HALF_OPEN = "half-open"
    """There was a sign of life; probes decide."""


class Breaker:
    """Opens after `misses_to_open` offloads in a row without an answer in time, or `silence_ms` without a sign of
    life (reply or heartbeat). A sign of life then half-opens it, and `successes_to_close` probes in time close it.
    The very first sign of life closes it at once.
    """

    def __init__(self, *, misses_to_open: int = 6, silence_ms: float = 1200.0, successes_to_close: int = 2) -> None:
        self._misses_to_open = misses_to_open
        self._silence_ns = int(silence_ms * 1e6)
        self._successes_to_close = successes_to_close
        # Open at the start: nobody has been heard yet.
        self.state = BreakerState.OPEN
        self.reason = "no worker heard yet"
        self.opened = 0
        self._misses = 0
        self._successes = 0
        self._heard_ns: int | None = None

    def on_alive(self, now_ns: int) -> None:
        """A heartbeat or any reply arrived."""
        first, self._heard_ns = self._heard_ns is None, now_ns
        if first:  # nothing has gone wrong yet
            self.state = BreakerState.CLOSED
            self.reason = "a worker was heard"
        elif self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN
            self.reason = "heard again, probing"
            self._successes = 0

    def on_success(self, now_ns: int) -> None:
        """A reply with an answer came in time."""
        self.on_alive(now_ns)
        self._misses = 0
        if self.state is BreakerState.HALF_OPEN:
            self._successes += 1
            if self._successes >= self._successes_to_close:
                self.state = BreakerState.CLOSED
                self.reason = f"{self._successes} probes came back in time"

    def on_miss(self, now_ns: int) -> None:
        """An offload or probe got no usable answer in time."""
        self._misses += 1
        if self.state is BreakerState.HALF_OPEN:
            self._successes = 0
            if self._misses >= self._misses_to_open:
                self._open(f"{self._misses} misses in a row")
        elif self.state is BreakerState.CLOSED and self._misses >= self._misses_to_open:
            self._open(f"{self._misses} misses in a row")

    def tick(self, now_ns: int) -> None:
        """Call before each decision: silence opens the breaker."""
        if self.state is BreakerState.OPEN or self._heard_ns is None:
            return
        silent_ns = now_ns - self._heard_ns
        if silent_ns > self._silence_ns:
            self._open(f"nothing heard for {silent_ns / 1e6:.0f} ms")

    @property
    def closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    def _open(self, reason: str) -> None:
        self.state = BreakerState.OPEN
        self.reason = reason
        self.opened += 1
        self._misses = 0

    def __repr__(self) -> str:
        return f"<Breaker {self.state} misses={self._misses} ({self.reason})>"
