"""Energy sensors: which of them count, how a counter that wraps is read, and what a failing one does."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from splitmesh.inference.energy import energy_meter


def put(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name).write_text(f"{text}\n")


def rapl(sysfs: Path, zone: str, energy_uj: int, range_uj: int = 999_999_999) -> Path:
    folder = sysfs / "class/powercap" / zone
    put(folder, energy_uj=str(energy_uj), max_energy_range_uj=str(range_uj))
    return folder / "energy_uj"


def test_a_machine_without_sensors_has_no_meter(tmp_path: Path) -> None:
    assert energy_meter(tmp_path) is None


def test_packages_are_summed_and_zones_inside_them_are_not(tmp_path: Path) -> None:
    first, second = rapl(tmp_path, "intel-rapl:0", 5_000_000), rapl(tmp_path, "intel-rapl:1", 1_000_000)
    core = rapl(tmp_path, "intel-rapl:0:0", 2_000_000)
    meter = energy_meter(tmp_path)
    assert meter is not None and meter.joules is None
    with meter:
        first.write_text("6500000\n")
        second.write_text("1250000\n")
        core.write_text("9000000\n")
    assert meter.joules == pytest.approx(1.75)


def test_a_counter_that_wrapped_counts_on(tmp_path: Path) -> None:
    counter = rapl(tmp_path, "intel-rapl:0", 999_900_000)
    meter = energy_meter(tmp_path)
    assert meter is not None
    with meter:
        counter.write_text("400000\n")
    assert meter.joules == pytest.approx(0.5)


def test_a_counter_that_vanishes_gives_no_figure_and_the_next_block_may(tmp_path: Path) -> None:
    counter = rapl(tmp_path, "intel-rapl:0", 1_000_000)
    meter = energy_meter(tmp_path)
    assert meter is not None
    with meter:
        counter.unlink()
    assert meter.joules is None
    counter.write_text("1000000\n")
    with meter:
        counter.write_text("3000000\n")
    assert meter.joules == pytest.approx(2.0)


def test_an_unreadable_counter_is_left_out(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", 1_000_000).write_text("denied")
    assert energy_meter(tmp_path) is None


def jetson(sysfs: Path, labels: tuple[str, str]) -> Path:
    monitor = sysfs / "class/hwmon/hwmon3"
    put(monitor, name="ina3221", in1_label=labels[0], in1_input="5000", curr1_input="2000")
    put(monitor, in2_label=labels[1], in2_input="5000", curr2_input="400")
    return monitor


@pytest.mark.parametrize(("labels", "watts"), [(("VDD_IN", "VDD_CPU_GPU_CV"), 10.0), (("VDD_SOC", "VDD_CPU"), 12.0)])
def test_power_is_integrated_over_the_block(tmp_path: Path, labels: tuple[str, str], watts: float) -> None:
    jetson(tmp_path, labels)
    rapl(tmp_path, "intel-rapl:0", 1)
    meter = energy_meter(tmp_path)
    assert meter is not None
    start = time.perf_counter()
    with meter:
        threading.Event().wait(0.05)
    took_s = time.perf_counter() - start
    assert meter.joules is not None
    assert 0.05 * watts * 0.8 <= meter.joules <= took_s * watts * 1.01


def test_a_monitor_that_gives_power_is_read_so(tmp_path: Path) -> None:
    put(tmp_path / "class/hwmon/hwmon0", name="coretemp", temp1_input="40000")
    put(tmp_path / "class/hwmon/hwmon1", name="ina226", power1_input="3000000", in1_input="1", curr1_input="1")
    meter = energy_meter(tmp_path)
    assert meter is not None
    start = time.perf_counter()
    with meter:
        threading.Event().wait(0.02)
    assert meter.joules is not None
    assert 0.0 < meter.joules <= (time.perf_counter() - start) * 3.03


def test_a_monitor_that_fails_in_the_block_gives_no_figure(tmp_path: Path) -> None:
    monitor = jetson(tmp_path, ("VDD_IN", "VDD_SOC"))
    meter = energy_meter(tmp_path)
    assert meter is not None
    with meter:
        (monitor / "curr1_input").unlink()
        threading.Event().wait(0.02)
    assert meter.joules is None
