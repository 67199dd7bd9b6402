"""Owns what is known of the path to the cloud: base delay, rate, what is under way and whether it has stalled.

The path is modelled as one first-in first-out server (Lindley's recursion): message `i` starts to cross at
`start_i = max(sent_i, arrived_{i-1})` and needs `a + S_i / B`. So `y_i = arrived_i + a - start_i` is a clean sample
of `a + S_i / B` whether or not messages queue behind each other, and it is fed by application-level acks only.
`[a, 1/B]` follows from a Kalman filter, i.e. recursive least squares whose forgetting is per state: the rate drifts
fast, the base delay slowly. (With one forgetting factor for both, as in plain RLS, sizes that hardly vary let the
two run away from each other.) A CUSUM on the normalised residual re-opens the rate's variance on a jump.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_KB = 1000.0
_MIN_MS_PER_KB = 8e-5
_MAX_MS_PER_KB = 800.0
_Q90 = 1.2816
"""Quantile of the standard normal distribution."""
_MOST_DOUBT = 4.0
"""Of the logarithm of a rate of which nothing is known."""
_FIRST_DOUBT_MS_PER_KB = 40.0
"""Standard deviation before anything was measured: a link of 100 kbit/s is no surprise."""
_SETTLED_DOUBT = 0.25
"""Standard deviation over rate that following a moving link leaves; what is within it is no doubt."""
_CUSUM_SLACK = 0.7
_CUSUM_LIMIT = 4.0
_PATIENCE_NS = 500_000_000
"""How long the ack of a message is waited for, once a later one has crossed, before what came after it is learnt."""


@dataclass(slots=True)
class _InFlight:
    size_bytes: int
    sent_ns: int
    remote_ms: float
    arrived_ns: int | None = None
    """Known once its ack is here."""
    passed_ns: int | None = None
    """When a later message had crossed, so that this one has too: its ack is late by the worker, not by the link."""

    @property
    def crossing(self) -> bool:
        """It may still be on the link, for all that is known."""
        return self.arrived_ns is None and self.passed_ns is None


@dataclass(frozen=True, slots=True)
class LinkView:
    """The estimate at one moment, for records, spans and the live table."""

    bandwidth_bps: float
    base_ms: float
    backlog_bytes: int
    backlog_ms: float
    stalled_ms: float
    samples: int


class LinkEstimator:
    """Feed it every send, delivery and loss with the edge's monotonic `now_ns`; ask it for `network_ms`."""

    def __init__(self, *, bandwidth_bps: float = 8e6, base_ms: float = 20.0) -> None:
        self._base_ms = base_ms
        self._ms_per_kb = 8 * _KB / bandwidth_bps * 1000
        # Variances of the two states and their covariance; wide: the first samples decide, also over a thin link.
        self._p_bb, self._p_bs, self._p_ss = 15.0**2, 0.0, _FIRST_DOUBT_MS_PER_KB**2
        self._noise_ms2 = 3.0**2
        self._cusum_up = self._cusum_down = 0.0
        self._in_flight: dict[str, _InFlight] = {}
        self._last_arrival_ns = 0
        self._learnt_ns = 0
        """When the latest message that taught something was sent; what was not waited for comes too late."""
        self._doubted_kb = 0.0
        """Size of the last sample that was taken for dead time, until one like it is in line; 0: none."""
        self.samples = 0

    # -- events ---------------------------------------------------------------------------------------------------

    def on_sent(self, key: str, size_bytes: int, now_ns: int, *, remote_ms: float) -> None:
        """`remote_ms`: how long the worker is expected to hold it, so that overdue can be told from busy."""
        self._in_flight[key] = _InFlight(size_bytes, now_ns, remote_ms)

    def on_delivered(self, key: str, now_ns: int, *, remote_ms: float) -> float | None:
        """An ack came now, for which the worker itself spent `remote_ms`. Returns the time spent on the path, ms."""
        entry = self._in_flight.get(key)
        if entry is None or entry.arrived_ns is not None:
            return None
        entry.arrived_ns = now_ns - int(remote_ms * 1e6)
        self._pass(key, entry.arrived_ns)
        self._learn_in_order()
        return (entry.arrived_ns - entry.sent_ns) / 1e6

    def on_lost(self, key: str) -> None:
        """Nobody waits for it any longer. It teaches nothing about the rate; the breaker hears of it elsewhere."""
        self._in_flight.pop(key, None)
        self._learn_in_order()

    def _pass(self, arrived: str, arrived_ns: int) -> None:
        """What was sent before `arrived` has crossed before it did."""
        for key, entry in self._in_flight.items():
            if key == arrived:
                return
            if entry.crossing:
                entry.passed_ns = arrived_ns

    def _learn_in_order(self) -> None:
        """Acks overtake each other (a worker holds some longer), bytes on the path do not: learn in sending order.

        What a later message has passed long ago is not waited for: a request that a worker took to its grave would
        hold back the others' news until it is given up.
        """
        newest_ns = max((entry.arrived_ns or 0 for entry in self._in_flight.values()), default=0)
        for key, entry in list(self._in_flight.items()):
            if entry.arrived_ns is None:
                if entry.passed_ns is None or newest_ns - entry.passed_ns < _PATIENCE_NS:
                    return
                continue
            del self._in_flight[key]
            if entry.sent_ns < self._learnt_ns:
                continue
            self._learnt_ns = entry.sent_ns
            start_ns = max(entry.sent_ns, self._last_arrival_ns - int(self._base_ms * 1e6))
            self._last_arrival_ns = max(self._last_arrival_ns, entry.arrived_ns)
            self._learn(max(0.05, (entry.arrived_ns - start_ns) / 1e6), entry.size_bytes / _KB)

    # -- questions ------------------------------------------------------------------------------------------------

    @property
    def bandwidth_bps(self) -> float:
        return 8 * _KB / self._ms_per_kb * 1000

    @property
    def bandwidth_interval_bps(self) -> tuple[float, float]:
        """80 % interval of `bandwidth_bps`, its logarithm taken as normal (delta method)."""
        doubt = min(math.sqrt(self._p_ss) / self._ms_per_kb, _MOST_DOUBT)
        factor = math.exp(_Q90 * doubt)
        return self.bandwidth_bps / factor, self.bandwidth_bps * factor

    @property
    def base_ms(self) -> float:
        return self._base_ms

    @property
    def in_flight_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self._in_flight.values() if entry.crossing)

    def transfer_ms(self, size_bytes: float) -> float:
        """Time the bytes alone occupy the link."""
        return size_bytes / _KB * self._ms_per_kb

    def doubt_ms(self, size_bytes: float) -> float:
        """What a standard deviation of the rate, beyond that of a link well known, would add to `transfer_ms`."""
        doubt = math.sqrt(self._p_ss) - _SETTLED_DOUBT * self._ms_per_kb
        return size_bytes / _KB * max(0.0, doubt)

    def network_ms(self, size_bytes: float, now_ns: int) -> float:
        """Wait behind what is under way, plus crossing, plus base delay."""
        backlog_ms, _ = self.backlog(now_ns)
        return backlog_ms + self.transfer_ms(size_bytes) + self._base_ms

    def view(self, now_ns: int) -> LinkView:
        backlog_ms, stalled_ms = self.backlog(now_ns)
        return LinkView(self.bandwidth_bps, self._base_ms, self.in_flight_bytes, backlog_ms, stalled_ms, self.samples)

    def backlog(self, now_ns: int) -> tuple[float, float]:
        """(ms until the link is free for a new message, ms by which the most overdue ack is late)."""
        free_ms = self._last_arrival_ns / 1e6 - self._base_ms
        now_ms = now_ns / 1e6
        stalled_ms = 0.0
        for entry in self._in_flight.values():
            if entry.arrived_ns is not None:
                free_ms = max(free_ms, entry.arrived_ns / 1e6 - self._base_ms)
            if not entry.crossing:
                continue
            free_ms = max(entry.sent_ns / 1e6, free_ms) + self.transfer_ms(entry.size_bytes)
            overdue_ms = now_ms - (free_ms + self._base_ms + entry.remote_ms)
            if overdue_ms > 0:
                # Its ack is not here, so it has not crossed as predicted: all behind it shift too.
                stalled_ms = max(stalled_ms, overdue_ms)
                free_ms += overdue_ms
        # How long a stall will last nobody knows; that it has lasted x says: expect about x more (Lindy's law).
        return max(0.0, free_ms - now_ms) + stalled_ms, stalled_ms

    # -- learning -------------------------------------------------------------------------------------------------

    def _learn(self, y_ms: float, kb: float) -> None:
        self.samples += 1
        # Random walk: the rate may move by some 12 % between two samples, the base delay by 0.3 ms.
        p_bb = self._p_bb + 0.3**2
        p_ss = self._p_ss + (0.12 * self._ms_per_kb) ** 2
        p_bs = self._p_bs
        expected_ms = self._base_ms + kb * self._ms_per_kb
        residual = y_ms - expected_ms
        if self._is_dead_time(y_ms, expected_ms, kb):
            self._p_ss += self._ms_per_kb**2
            return
        spread = p_bb + 2 * kb * p_bs + kb * kb * p_ss + self._noise_ms2
        if self._jumped(residual / math.sqrt(spread)):
            p_ss += self._ms_per_kb**2
            p_bb += (0.5 * self._base_ms) ** 2
            spread = p_bb + 2 * kb * p_bs + kb * kb * p_ss + self._noise_ms2
        gain_b = (p_bb + kb * p_bs) / spread
        gain_s = (p_bs + kb * p_ss) / spread
        self._base_ms = max(0.05, self._base_ms + gain_b * residual)
        rate = self._ms_per_kb + gain_s * residual
        # One sample may quarter the time per byte, or triple it or move it by what was in doubt: never turn it over.
        most = max(self._ms_per_kb * 3, self._ms_per_kb + 2 * math.sqrt(p_ss))
        self._ms_per_kb = min(max(rate, self._ms_per_kb / 4, _MIN_MS_PER_KB), most, _MAX_MS_PER_KB)
        self._p_bb = max(1e-4, p_bb - gain_b * (p_bb + kb * p_bs))
        self._p_ss = max(1e-9, p_ss - gain_s * (p_bs + kb * p_ss))
        self._p_bs = p_bs - gain_b * (p_bs + kb * p_ss)
        limit = 0.98 * math.sqrt(self._p_bb * self._p_ss)
        self._p_bs = min(max(self._p_bs, -limit), limit)
        noise = min(residual * residual, 9 * self._noise_ms2)
        self._noise_ms2 = min(max(0.97 * self._noise_ms2 + 0.03 * noise, 0.25), 20.0**2)

    def _is_dead_time(self, y_ms: float, expected_ms: float, kb: float) -> bool:
        """One sample far out of line is an outage that ended, not a rate; two of that size are a rate. Smaller ones
        that are in line in between say nothing of the rate.
        """
        if y_ms < max(5 * expected_ms, expected_ms + 300):
            if 2 * kb >= self._doubted_kb:
                self._doubted_kb = 0.0
            return False
        if self._doubted_kb:
            self._doubted_kb = 0.0
            return False
        self._doubted_kb = kb
        return True

    def _jumped(self, z: float) -> bool:
        """Two-sided CUSUM (Page 1954) on the normalised residual."""
        self._cusum_up = max(0.0, self._cusum_up + min(z, 4.0) - _CUSUM_SLACK)
        self._cusum_down = max(0.0, self._cusum_down - max(z, -4.0) - _CUSUM_SLACK)
        if max(self._cusum_up, self._cusum_down) < _CUSUM_LIMIT:
            return False
        self._cusum_up = self._cusum_down = 0.0
        return True
