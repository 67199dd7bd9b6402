"""What bench-telemetry says of its rounds: the loss against the round's own untraced run, with an interval."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.telemetry import costs, plot


def rounds(pairs: list[tuple[float, float, float]]) -> list[dict[str, dict[str, float]]]:
    return [{share: {"fps": fps} for share, fps in zip(("0", "0.1", "1"), each, strict=True)} for each in pairs]


def test_a_loss_is_told_against_the_same_round() -> None:
    told = costs(rounds([(100.0, 99.0, 90.0), (50.0, 49.5, 45.0), (10.0, 9.9, 9.0)]))
    assert told["0.1"] == {"lost": 0.01, "low": 0.01, "high": 0.01}
    assert told["1"]["lost"] == pytest.approx(0.1)


def test_many_rounds_leave_the_outermost_out_of_the_interval() -> None:
    steady = [(100.0, 98.0, 95.0)] * 10
    told = costs(rounds([*steady, (100.0, 50.0, 95.0)]))
    assert told["0.1"] == {"lost": 0.02, "low": 0.02, "high": 0.02}, "one odd round of eleven is not in it"
    few = costs(rounds([*steady[:3], (100.0, 50.0, 95.0)]))
    assert few["0.1"]["high"] == 0.5, "of four rounds the interval is the whole range"


def test_the_picture_is_written(tmp_path: Path) -> None:
    report = {"cost": {"edge": costs(rounds([(100.0, 99.0, 90.0)]))}}
    plot(report, tmp_path / "telemetry.png")
    assert (tmp_path / "telemetry.png").stat().st_size > 1000
