"""Owns reading a device's energy sensors: Intel/AMD RAPL counters, TI INA power monitors (Jetson). Guesses nothing.

RAPL counts microjoules itself and wraps; see the kernel's Documentation/power/powercap. An INA3221 or INA226 shows
the power of the moment through hwmon (`power*_input` in µW, else `in*_input` mV × `curr*_input` mA), which is sampled
while the work runs and integrated.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_SAMPLE_S = 0.005
_INA_CHIPS = ("ina3221", "ina226", "ina219", "ina2xx")


@dataclass(frozen=True, slots=True)
class _Counter:
    """A RAPL package zone."""

    path: Path
    wraps_at_uj: int

    def read_uj(self) -> int:
        return int(self.path.read_text())


@dataclass(frozen=True, slots=True)
class _Rail:
    """Files whose product, or the first alone, is the power of one supply rail in microwatts."""

    files: tuple[Path, ...]

    def read_uw(self) -> float:
        power = 1.0
        for file in self.files:
            power *= int(file.read_text())
        return power


class EnergyMeter:
    """Measures what the whole device used between entering and leaving a `with` block.

    `joules` is None before the block ended, or when a sensor failed in it. One block at a time. All processes of the
    device are in the figure: measure on a quiet one.
    """

    def __init__(self, counters: tuple[_Counter, ...], rails: tuple[_Rail, ...]) -> None:
        self.joules: float | None = None
        self._counters = counters
        self._rails = rails
        self._start_uj: list[int] = []
        self._sampled_j = 0.0
        self._failed = False
        self._stop = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> EnergyMeter:
        self.joules, self._sampled_j, self._failed = None, 0.0, False
        self._start_uj = self._read_counters()
        if self._rails:
            self._stop.clear()
            self._sampler = threading.Thread(target=self._sample, name="energy", daemon=True)
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sampler is not None:
            self._stop.set()
            self._sampler.join()
            self._sampler = None
        ends = self._read_counters()
        if self._failed:
            return
        counted = sum(
            (end - start) % counter.wraps_at_uj
            for counter, start, end in zip(self._counters, self._start_uj, ends, strict=True)
        )
        self.joules = counted / 1e6 + self._sampled_j

    def _read_counters(self) -> list[int]:
        try:
            return [counter.read_uj() for counter in self._counters]
        except (OSError, ValueError):
            self._failed = True
            return [0] * len(self._counters)

    def _sample(self) -> None:
        """Trapezoidal sum of power over time."""
        last_s = time.perf_counter()
        last_w = self._watts()
        while True:
            ended = self._stop.wait(_SAMPLE_S)
            now_s, now_w = time.perf_counter(), self._watts()
            self._sampled_j += (now_s - last_s) * (last_w + now_w) / 2
            last_s, last_w = now_s, now_w
            if ended:
                return

    def _watts(self) -> float:
        try:
            return sum(rail.read_uw() for rail in self._rails) / 1e6
        except (OSError, ValueError):
            self._failed = True
            return 0.0


def energy_meter(sysfs: Path = Path("/sys")) -> EnergyMeter | None:
    """A meter over the sensors that can be read below `sysfs`, INA monitors before RAPL; None without any.

    RAPL counters are often readable by root only. Never both: on a machine that has both they overlap.
    """
    rails = _ina_rails(sysfs)
    if rails:
        return EnergyMeter((), rails)
    counters = _rapl_packages(sysfs)
    return EnergyMeter(counters, ()) if counters else None


def _rapl_packages(sysfs: Path) -> tuple[_Counter, ...]:
    """Package zones; zones inside a package would count twice."""
    found = []
    for zone in sorted((sysfs / "class/powercap").glob("intel-rapl:*")):
        if zone.name.count(":") != 1:
            continue
        try:
            counter = _Counter(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text()) + 1)
            counter.read_uj()
        except (OSError, ValueError):
            continue
        found.append(counter)
    return tuple(found)


def _ina_rails(sysfs: Path) -> tuple[_Rail, ...]:
    """The board's input rail (labelled VDD_IN, POM_5V_IN, …) where one is named, else every rail."""
    found: list[tuple[str, _Rail]] = []
    for monitor in sorted((sysfs / "class/hwmon").glob("hwmon*")):
        if _text(monitor / "name") not in _INA_CHIPS:
            continue
        for rail, label in _rails_of(monitor):
            try:
                rail.read_uw()
            except (OSError, ValueError):
                continue
            found.append((label, rail))
    whole = tuple(rail for label, rail in found if label.upper().endswith("_IN"))
    return whole or tuple(rail for _, rail in found)


def _rails_of(monitor: Path) -> list[tuple[_Rail, str]]:
    rails = []
    for power in sorted(monitor.glob("power*_input")):
        number = power.name.removeprefix("power").removesuffix("_input")
        rails.append((_Rail((power,)), _text(monitor / f"power{number}_label")))
    if rails:
        return rails
    for current in sorted(monitor.glob("curr*_input")):
        number = current.name.removeprefix("curr").removesuffix("_input")
        voltage = monitor / f"in{number}_input"
        if voltage.exists():
            rails.append((_Rail((voltage, current)), _text(monitor / f"in{number}_label")))
    return rails


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
