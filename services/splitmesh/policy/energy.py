"""Owns what choices cost in energy, and the price that keeps a device's average power to a budget.

Beyond idling, `E = (P_active − P_idle)·t + e_radio·S`, with `t` the time that models run on the device and `S` the
bits that are sent; the average is `P_idle + ΣE / time`. What decoding and codecs draw is part of `P_idle`, as it
hardly depends on what is chosen.

The three figures are the user's to measure. The default is a made-up single-board computer behind an LTE modem: its
radio's figure is the slope of power over uplink rate, 438 mW per Mbit/s (Huang et al., "A close examination of
performance and power characteristics of 4G LTE networks", MobiSys 2012).

The price is a dual variable: it rises with what was spent beyond the budget so far and falls with what was not
(drift plus penalty; Neely 2010, ch. 4), as that of the uplink budget does (`policy.worth`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from splitmesh.errors import SettingsError

_PRICE = 0.03
"""Of the square of what the device spends when it works all through a frame period: owed, and to be spent."""
_SAVED_S = 10.0
"""At most so many seconds' allowance is saved up for what is to come."""


@dataclass(frozen=True, slots=True)
class PowerModel:
    """Raises SettingsError unless 0 ≤ idle_w < active_w and 0 ≤ radio_nj_per_bit, all finite."""

    idle_w: float = 3.0
    """Drawn by the whole device while frames come and no model runs."""
    active_w: float = 7.0
    """Drawn while a model runs."""
    radio_nj_per_bit: float = 438.0
    """On top, for each bit sent."""

    def __post_init__(self) -> None:
        if not 0 <= self.idle_w < self.active_w < math.inf:
            reason = f"must lie above what is drawn without one ({self.idle_w:g} W), not at {self.active_w:g}"
            raise SettingsError(f"power while a model runs {reason}", key="active_w")
        if not 0 <= self.radio_nj_per_bit < math.inf:
            raise SettingsError(f"{self.radio_nj_per_bit:g} is no energy per bit", key="radio_nj_per_bit")

    @property
    def per_device_ms_j(self) -> float:
        return (self.active_w - self.idle_w) / 1000

    @property
    def per_byte_j(self) -> float:
        return 8e-9 * self.radio_nj_per_bit

    def spent_j(self, device_ms: float, sent_bytes: float) -> float:
        """Energy beyond idling."""
        return self.per_device_ms_j * device_ms + self.per_byte_j * sent_bytes

    def average_w(self, device_ms: float, sent_bytes: float, span_s: float) -> float:
        """Average power, W, of so much in `span_s` > 0."""
        return self.idle_w + self.spent_j(device_ms, sent_bytes) / span_s


@dataclass(frozen=True, slots=True)
class PowerBudget:
    """An average power to keep to in the long run, W. Raises SettingsError unless it lies above idle power, as no
    choice could keep to it."""

    budget_w: float
    model: PowerModel = PowerModel()

    def __post_init__(self) -> None:
        if not self.model.idle_w < self.budget_w < math.inf:
            reason = f"must lie above what is drawn anyway ({self.model.idle_w:g} W), not at {self.budget_w:g}"
            raise SettingsError(f"a power budget {reason}", key="power_budget")


@dataclass(frozen=True, slots=True)
class EnergyPrice:
    """What energy costs for one frame, in utility."""

    model: PowerModel
    per_j: float

    @property
    def per_device_ms(self) -> float:
        return self.per_j * self.model.per_device_ms_j

    @property
    def per_byte(self) -> float:
        return self.per_j * self.model.per_byte_j


class PowerAccount:
    """What was spent beyond `budget` so far. Holds no clock."""

    def __init__(self, budget: PowerBudget) -> None:
        self.budget = budget
        self.debt_j = 0.0
        """Below 0: what is saved up."""
        self._seen: tuple[int, float] | None = None
        """When it was last brought up to date, and what had been spent by then in all."""

    def price(self, spent_j: float, now_ns: int, frame_period_ms: float) -> EnergyPrice:
        """Of energy now. spent_j: beyond idling, in all, since the device was started."""
        allowance_w = self.budget.budget_w - self.budget.model.idle_w
        if self._seen is not None:
            before_ns, before_j = self._seen
            income_j = allowance_w * max(0, now_ns - before_ns) / 1e9
            self.debt_j = max(-_SAVED_S * allowance_w, self.debt_j + spent_j - before_j - income_j)
        self._seen = now_ns, spent_j
        busy_j = self.budget.model.per_device_ms_j * frame_period_ms
        return EnergyPrice(self.budget.model, _PRICE * max(0.0, self.debt_j) / busy_j**2)
